"""The badge on networks that refuse, cut or mute WebSockets, or also refuse long polls."""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from http import HTTPStatus

import httpx
import pytest
from playwright.async_api import Response, expect

from tests.browser.browser_users import POLL, BrowserUser, Sender, submit
from tests.browser.conftest import OpenBrowser
from tests.browser.durations import Durations
from tests.browser.proxy import Proxy
from tests.server_process import Server
from tests.waiting import until

SECOND = 1.0
SEARCH = 4.0  # two refused sockets and the backoff between them
FIRST_FRAME = 4.0  # time-out of a socket's first frame
DELAY = 0.4  # in each direction
SLOW = 10.0  # a page's files, its search for a transport, and a poll
POLL_INTERVAL = 7.0  # Poll-After, its jitter and one second

STATUSES = [HTTPStatus(number) for number in (401, 403, 404, 407, 502)]
CLOCKS = [-24, 24]  # hours

SHIFT_CLOCK = """
ms => {
  const now = Date.now;
  Date.now = () => now() + ms;
}
"""


async def test_websockets_refused_badge_counts_within_a_second(
    open_browser: OpenBrowser, server: Server, proxy: Proxy, durations: Durations
) -> None:
    proxy.refuses.add("websocket")
    alice, bob = await open_browser("alice"), await open_browser()
    await alice.send("bob", "before")
    tab = await bob.sign_in("bob", server.password)
    await tab.wait_for_held_poll()
    held, loaded = time.time(), await tab.wait_for_badge(1)
    assert await tab.history() == ["1"], "the rendered badge is right"
    durations.check("no WebSocket: the long poll is held", loaded, held, SEARCH)
    for count in (2, 3):
        sent = await alice.send("bob", f"message {count}")
        durations.check(f"no WebSocket: the badge shows {count}", sent, await tab.wait_for_badge(count), SECOND)
    assert await tab.history() == ["1", "2", "3"]
    assert proxy.refused["websocket"] >= 2
    assert not proxy.passed["websocket"]


async def test_websockets_refused_opening_messages_clears_all_tabs(
    sender: Sender, open_browser: OpenBrowser, proxy: Proxy, durations: Durations
) -> None:
    proxy.refuses.add("websocket")
    bob = await open_browser("bob")
    await sender.send("bob", "one")
    reading = bob.tabs[0]
    await reading.wait_for_held_poll()
    other = await bob.tab("/")
    for tab in bob.tabs:
        await tab.wait_for_badge(1)
    opened = await reading.open("/messages?list=received")
    durations.check(
        "no WebSocket: the tab with the messages is cleared", opened, await reading.wait_for_badge(0), SECOND
    )
    durations.check("no WebSocket: the other tab is cleared", opened, await other.wait_for_badge(0), SECOND)
    assert not proxy.passed["websocket"]


async def test_websockets_cut_after_200_ms_badge_right_in_3_s(
    sender: Sender, open_browser: OpenBrowser, proxy: Proxy, durations: Durations
) -> None:
    proxy.socket_life = 0.2
    bob = await open_browser("bob")
    (tab,) = bob.tabs
    for count in range(1, 100):
        sent = await sender.send("bob", f"message {count}")
        durations.check(f"WebSockets cut: the badge shows {count}", sent, await tab.wait_for_badge(count), 3)
        if proxy.cut and count >= 8:
            break
    assert proxy.cut


async def test_mute_websockets_are_replaced_by_long_polls(
    sender: Sender, open_browser: OpenBrowser, server: Server, proxy: Proxy, durations: Durations
) -> None:
    proxy.mute = True
    bob = await open_browser()
    tab = await bob.sign_in("bob", server.password)
    sent = await sender.send("bob", "message 1")
    durations.check("WebSockets mute: the badge shows 1", sent, await tab.wait_for_badge(1), FIRST_FRAME + SECOND)
    await tab.wait_for_held_poll()
    sent = await sender.send("bob", "message 2")
    durations.check("WebSockets mute: the badge shows 2", sent, await tab.wait_for_badge(2), SECOND)
    assert proxy.passed["websocket"] == 1
    assert not proxy.refused


@pytest.mark.parametrize(("kind", "times"), [("long poll", 1), ("held poll", 2)])
async def test_long_polls_refused_badge_is_right_within_a_poll(
    kind: str, times: int, sender: Sender, open_browser: OpenBrowser, proxy: Proxy, durations: Durations
) -> None:
    proxy.refuses |= {"websocket", kind}
    proxy.poll_after = b"1"
    bob = await open_browser("bob")
    (tab,) = bob.tabs
    await _wait_for_poll(bob)
    while proxy.refused[kind] < times:  # one refused first request is a failure, of held requests it takes two
        await _wait_for_poll(bob)
    sent = await sender.send("bob", "message 1")
    durations.check(f"no WebSocket, no {kind}: the badge shows 1", sent, await tab.wait_for_badge(1), POLL_INTERVAL)
    assert proxy.refused["websocket"] >= 2
    assert not proxy.passed["websocket"] + proxy.passed["held poll"]


async def test_twelve_tabs_without_websockets_load_and_send_at_once(
    open_browser: OpenBrowser, proxy: Proxy, durations: Durations
) -> None:
    """A browser opens six HTTP/1.1 connections to a host. The tabs share one held poll."""
    proxy.refuses.add("websocket")
    alice, bob = await open_browser("alice"), await open_browser("bob")
    await bob.tabs[0].wait_for_held_poll()
    for number in range(2, 13):
        begun = time.time()
        await bob.tab("/")
        durations.check(f"no WebSocket: tab {number} is loaded", begun, time.time(), SECOND)
    begun = time.time()
    await bob.tabs[-1].open("/send_message/alice")
    await bob.tabs[-1].page.fill("[name=message]", "from the twelfth tab")
    await submit(bob.tabs[-1].page)
    durations.check("no WebSocket: a message is sent in the twelfth tab", begun, time.time(), 2 * SECOND)
    sent = await alice.send("bob", "to twelve tabs")
    for tab in bob.tabs:
        durations.check("no WebSocket: one of twelve tabs shows 1", sent, await tab.wait_for_badge(1), SECOND)


async def test_page_of_a_proxy_stops_no_tab(
    open_browser: OpenBrowser, sender: Sender, server: Server, durations: Durations
) -> None:
    """Whatever its status; five networks at the same time, since a tab waits for most of this test."""

    async def behind_a_proxy(status: HTTPStatus, proxy: Proxy) -> None:
        bob = await open_browser("bob", base_url=proxy.url)
        (tab,) = bob.tabs
        await tab.wait_for_frame()
        proxy.refusal, proxy.refuses = status, {"websocket", "long poll", "poll"}
        await proxy.down()
        await proxy.up()
        if await together.wait() == 0:
            await sender.send("bob", "behind a proxy")
        await together.wait()
        await expect(tab.connection).to_be_visible()
        await expect(tab.signed_out).to_be_hidden()
        assert proxy.refused["poll"]
        proxy.refuses.clear()
        durations.check(f"a proxy's {status} is over", time.time(), await tab.wait_for_badge(1), POLL_INTERVAL)
        await expect(tab.connection).to_be_hidden()

    together = asyncio.Barrier(len(STATUSES))
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for status in STATUSES:
            proxy = await stack.enter_async_context(Proxy(server.port))
            group.create_task(behind_a_proxy(status, proxy))


async def test_wall_clock_set_by_a_day_delays_no_poll(
    open_browser: OpenBrowser, sender: Sender, server: Server, durations: Durations
) -> None:
    """Forward, and backward in another browser at the same time."""

    async def behind_a_proxy(hours: int, proxy: Proxy) -> None:
        proxy.refuses |= {"websocket", "long poll"}
        proxy.poll_after = b"1"
        bob = await open_browser("bob", base_url=proxy.url)
        (tab,) = bob.tabs
        await _wait_for_poll(bob)
        await tab.page.evaluate(SHIFT_CLOCK, hours * 3_600_000)
        proxy.refuses.add("poll")
        async with bob.context.expect_event("response", lambda response: response.status == HTTPStatus.BAD_GATEWAY):
            pass
        if await together.wait() == 0:
            await sender.send("bob", "message 1")
        await together.wait()
        await expect(tab.connection).to_be_visible()
        proxy.refuses.remove("poll")
        healed = time.time()
        await expect(tab.badge).to_have_text("1")
        durations.check(f"clock set by {hours} h: the badge shows 1", healed, time.time(), POLL_INTERVAL)

    together = asyncio.Barrier(len(CLOCKS))
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for hours in CLOCKS:
            proxy = await stack.enter_async_context(Proxy(server.port))
            group.create_task(behind_a_proxy(hours, proxy))


async def test_offline_is_shown_at_once(sender: Sender, bob: BrowserUser, durations: Durations) -> None:
    (tab,) = bob.tabs
    await tab.wait_for_frame()
    begun = time.time()
    await bob.context.set_offline(True)
    await expect(tab.connection).to_be_visible()
    durations.check("offline: the notice is shown", begun, time.time(), SECOND)
    await sender.send("bob", "while offline")
    begun = time.time()
    await bob.context.set_offline(False)
    durations.check("online: the badge shows 1", begun, await tab.wait_for_badge(1), SECOND)
    await expect(tab.connection).to_be_hidden()


@pytest.mark.parametrize("refused", [set(), {"websocket", "long poll"}], ids=["WebSocket", "poll"])
async def test_slow_network_delays_the_badge_by_little(
    open_browser: OpenBrowser, sender: Sender, proxy: Proxy, durations: Durations, refused: set[str]
) -> None:
    """As a phone with a weak signal."""
    proxy.refuses = refused
    bob = await open_browser("bob")
    (tab,) = bob.tabs
    proxy.delay = DELAY
    for count in (1, 2):
        await tab.open("/")
        sent = await sender.send("bob", f"message {count}")
        shown = await tab.wait_for_badge(count)
        assert shown > sent + DELAY
        durations.check("slow network: a message sent while the page connects", sent, shown, SLOW)


@pytest.mark.parametrize("environ", [{"MICROBLOG_HEARTBEAT": "0.4"}])
async def test_frozen_tab_is_right_within_a_second_of_resuming(
    server: Server, sender: Sender, bob: BrowserUser, durations: Durations
) -> None:
    """Frozen until the server closes its connection."""
    (tab,) = bob.tabs
    await tab.wait_for_frame()
    assert bob.context.browser
    session = await bob.context.browser.new_browser_cdp_session()
    processes = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
    pages = [each["id"] for each in processes if each["type"] == "renderer"]
    try:
        for pid in pages:
            os.kill(pid, signal.SIGSTOP)
        await sender.send("bob", "while frozen")
        await asyncio.to_thread(until, lambda: 'code="4408"' in httpx.get(f"{server.url}/metrics").text)
    finally:
        begun = time.time()
        for pid in pages:
            os.kill(pid, signal.SIGCONT)
    shown = await tab.wait_for_badge(1)
    assert shown > begun
    durations.check("frozen tab: the badge shows 1", begun, shown, SECOND)


async def _wait_for_poll(user: BrowserUser) -> None:
    """Return right after a poll's response: a message sent then waits longest."""
    async with user.context.expect_event("response", _is_poll):
        pass


def _is_poll(response: Response) -> bool:
    return POLL.search(response.url) is not None and response.status == 200

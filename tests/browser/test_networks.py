"""The badge on networks that are not made for it: WebSockets refused, cut or mute, long polls refused too."""

import time

import pytest
from playwright.async_api import Response

from tests.browser.conftest import Arrive
from tests.browser.people import POLL, Human, Sender
from tests.browser.proxy import Proxy
from tests.browser.timings import Timings
from tests.server_process import Server

SECOND = 1.0
SEARCH = 4.0  # two refused sockets, with the wait between them
FIRST_ANSWER = 4.0  # what a socket is given to say something
POLL_INTERVAL = 7.0  # Poll-After, its jitter, and a second


async def test_where_websockets_are_refused_the_badge_counts_each_message_within_a_second(
    arrive: Arrive, server: Server, proxy: Proxy, timings: Timings
) -> None:
    proxy.refuses.add("websocket")
    alice, bob = await arrive("alice"), await arrive()
    await alice.send("bob", "before")
    tab = await bob.sign_in("bob", server.password)
    await tab.asks()
    held, loaded = time.time(), await tab.shows(1)
    assert await tab.history() == ["1"], "the first paint is right at once"
    timings.check("no WebSocket: the long poll is held", loaded, held, SEARCH)
    for count in (2, 3):
        sent = await alice.send("bob", f"message {count}")
        timings.check(f"no WebSocket: the badge shows {count}", sent, await tab.shows(count), SECOND)
    assert await tab.history() == ["1", "2", "3"]
    assert proxy.refused["websocket"] >= 2
    assert not proxy.passed["websocket"]


async def test_where_websockets_are_refused_opening_messages_clears_the_badge_in_every_tab(
    sender: Sender, arrive: Arrive, proxy: Proxy, timings: Timings
) -> None:
    proxy.refuses.add("websocket")
    bob = await arrive("bob")
    await sender.send("bob", "one")
    reading = bob.tabs[0]
    other = await bob.tab("/")
    for tab in bob.tabs:
        await tab.asks()
        await tab.shows(1)
    opened = await reading.open("/messages")
    timings.check("no WebSocket: the tab that reads is cleared", opened, await reading.shows(0), SECOND)
    timings.check("no WebSocket: the other tab is cleared", opened, await other.shows(0), SECOND)
    assert not proxy.passed["websocket"]


async def test_where_every_websocket_is_cut_after_200_ms_the_badge_is_right_within_three_seconds(
    sender: Sender, arrive: Arrive, proxy: Proxy, timings: Timings
) -> None:
    proxy.socket_life = 0.2
    bob = await arrive("bob")
    (tab,) = bob.tabs
    for count in range(1, 100):
        sent = await sender.send("bob", f"message {count}")
        timings.check(f"WebSockets cut: the badge shows {count}", sent, await tab.shows(count), 3)
        if proxy.cut and count >= 8:
            break
    assert proxy.cut


async def test_where_websockets_open_and_say_nothing_a_plainer_way_is_found(
    sender: Sender, arrive: Arrive, server: Server, proxy: Proxy, timings: Timings
) -> None:
    proxy.mute = True
    bob = await arrive()
    tab = await bob.sign_in("bob", server.password)
    sent = await sender.send("bob", "message 1")
    timings.check("WebSockets mute: the badge shows 1", sent, await tab.shows(1), FIRST_ANSWER + SECOND)
    await tab.asks()
    sent = await sender.send("bob", "message 2")
    timings.check("WebSockets mute: the badge shows 2", sent, await tab.shows(2), SECOND)
    assert proxy.passed["websocket"] == 1
    assert not proxy.refused


@pytest.mark.parametrize(("kind", "times"), [("long poll", 1), ("held poll", 2)])
async def test_where_long_polls_are_refused_too_the_badge_is_right_within_a_poll(
    kind: str, times: int, sender: Sender, arrive: Arrive, proxy: Proxy, timings: Timings
) -> None:
    proxy.refuses |= {"websocket", kind}
    bob = await arrive("bob")
    (tab,) = bob.tabs
    await _polled(bob)
    while proxy.refused[kind] < times:  # once is enough to see that it does not answer, twice that it dies
        await _polled(bob)
    sent = await sender.send("bob", "message 1")
    timings.check(f"no WebSocket, no {kind}: the badge shows 1", sent, await tab.shows(1), POLL_INTERVAL)
    assert proxy.refused["websocket"] >= 2
    assert not proxy.passed["websocket"] + proxy.passed["held poll"]


async def _polled(human: Human) -> None:
    """Return when a poll has just been answered: what is sent then waits longest."""
    async with human.context.expect_event("response", _is_poll):
        pass


def _is_poll(response: Response) -> bool:
    return POLL.search(response.url) is not None and response.status == 200

"""The tabs of one account in a browser share one connection."""

import asyncio
import re
import time

import httpx
from playwright.async_api import expect

from tests.browser.browser_users import SIGN_OUT, BrowserUser, Sender, submit
from tests.browser.conftest import OpenBrowser
from tests.browser.durations import Durations
from tests.server_process import DEADLINE, Server

SECOND = 1.0


async def test_tabs_share_one_connection(
    bob: BrowserUser, sender: Sender, server: Server, durations: Durations
) -> None:
    await bob.tabs[0].wait_for_frame()
    for _ in range(3):
        await bob.tab("/")
    for count in (1, 2):
        sent = await sender.send("bob", f"message {count}")
        for tab in bob.tabs:
            durations.check(f"one connection: each tab shows {count}", sent, await tab.wait_for_badge(count), SECOND)
        assert await _sockets(server) == 1


async def test_another_tab_leads_when_leader_is_closed(
    bob: BrowserUser, sender: Sender, server: Server, durations: Durations
) -> None:
    leader = bob.tabs[0]
    await leader.wait_for_frame()
    others = [await bob.tab("/") for _ in range(2)]
    closed = time.time()
    await leader.page.close()
    await sender.send("bob", "while no tab leads")
    for tab in others:
        durations.check("leader closed: the other tabs show 1", closed, await tab.wait_for_badge(1), SECOND)
    await _until_sockets(server, 1)


async def test_crashed_leader_is_replaced(
    bob: BrowserUser, sender: Sender, server: Server, durations: Durations
) -> None:
    leader = bob.tabs[0]
    await leader.wait_for_frame()
    other = await bob.tab("/")
    assert await _sockets(server) == 1
    devtools = await bob.context.new_cdp_session(leader.page)
    crash = asyncio.ensure_future(devtools.send("Page.crash"))
    await leader.page.wait_for_event("crash")
    crash.cancel()
    sent = await sender.send("bob", "after the crash")
    durations.check("leader crashed: the other tab shows 1", sent, await other.wait_for_badge(1), SECOND)
    await _until_sockets(server, 1)


async def test_visible_tab_takes_over_from_hidden_leader(bob: BrowserUser, sender: Sender, server: Server) -> None:
    leader = bob.tabs[0]
    await leader.wait_for_frame()
    other = await bob.tab("/")
    await other.set_visible(False)
    await leader.set_visible(False)
    await sender.send("bob", "while all are hidden")
    for tab in bob.tabs:
        await tab.wait_for_badge(1)
    await other.set_visible(True)
    await other.wait_for_frame()
    await sender.send("bob", "to the new leader")
    for tab in bob.tabs:
        await tab.wait_for_badge(2)
    await _until_sockets(server, 1)
    await other.page.close()
    await sender.send("bob", "to the former leader")
    await leader.wait_for_badge(3)


async def test_accounts_of_one_browser_hear_nothing_of_each_other(
    open_browser: OpenBrowser, server: Server, sender: Sender
) -> None:
    browser, elsewhere = await open_browser("bob"), await open_browser("bob")
    first, stale = browser.tabs[0], await browser.tab("/")
    await submit(first.page, SIGN_OUT)
    await stale.wait_for_sign_out()
    alices = await browser.sign_in("alice", server.password)
    await elsewhere.send("alice", "to alice")
    await alices.wait_for_badge(1)
    await sender.send("bob", "to bob")
    await elsewhere.tabs[0].wait_for_badge(1)
    await elsewhere.send("alice", "to alice again")
    await alices.wait_for_badge(2)
    assert await stale.history() == [""]
    await expect(stale.signed_out).to_be_visible()


async def _until_sockets(server: Server, number: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while await _sockets(server) != number:
            await asyncio.sleep(0.01)


async def _sockets(server: Server) -> int:
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"{server.url}/metrics")).text
    found = re.search(r'microblog_tabs\{transport="websocket"\} (\d+)', metrics)
    assert found
    return int(found[1])

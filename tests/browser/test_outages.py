"""The server or the network away for a while, and word that is lost: everything heals by itself."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import expect

from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from tests.browser.people import Human, Sender, Tab
from tests.browser.proxy import Proxy
from tests.browser.timings import Timings
from tests.server_process import Server

BACK = 7.0  # a poll that is tried every five seconds, its jitter, and a second


async def test_tabs_come_back_by_themselves_and_say_meanwhile_that_they_are_old(
    server: Server, proxy: Proxy, alice: Human, bob: Human, timings: Timings
) -> None:
    await alice.tabs[0].open("/send_message/bob")
    await bob.tab("/messages")
    await asyncio.to_thread(server.stop, signal.SIGKILL)
    for tab in bob.tabs:
        await expect(tab.connection).to_be_hidden()
    for tab in bob.tabs:
        await _says_that_it_is_old(tab)
    await asyncio.to_thread(server.start)
    sent = await alice.send_written("after the crash")
    for tab in bob.tabs:
        timings.check("server back after a crash: the badge shows 1", sent, await tab.shows(1), BACK)
        await expect(tab.connection).to_be_hidden()


async def test_a_message_right_after_a_restart_is_shown_by_tabs_that_were_not_back_yet(
    server: Server, proxy: Proxy, alice: Human, bob: Human, timings: Timings
) -> None:
    await alice.send("bob", "before")
    (tab,) = bob.tabs
    await tab.shows(1)
    await alice.tabs[0].open("/send_message/bob")
    proxy.refuses = {"websocket", "long poll", "poll"}
    assert await asyncio.to_thread(server.stop) == 0
    await asyncio.to_thread(server.start)
    sent = await alice.send_written("right after the restart")
    assert await tab.history() == ["", "1"]
    proxy.refuses.clear()
    timings.check("server restarted: the badge shows 2", sent, await tab.shows(2), BACK)
    assert await tab.history() == ["", "1", "2"]
    await expect(tab.connection).to_be_hidden()


async def test_what_was_sent_while_the_network_was_away_is_shown_once_it_is_back(
    sender: Sender, proxy: Proxy, bob: Human, timings: Timings
) -> None:
    (tab,) = bob.tabs
    await proxy.down()
    for text in ("one", "two"):
        await sender.send("bob", text)
    await _says_that_it_is_old(tab)
    assert await tab.history() == [""]
    await proxy.up()
    back = time.time()
    timings.check("network back: the badge shows 2", back, await tab.shows(2), BACK)
    await expect(tab.connection).to_be_hidden()


@pytest.mark.parametrize("environ", [{"MICROBLOG_SWEEP": "1"}], ids=["sweep of 1 s"])
async def test_a_change_that_the_server_was_not_told_of_is_healed_by_the_sweep(
    server: Server, proxy: Proxy, sender: Sender, bob: Human, timings: Timings
) -> None:
    (tab,) = bob.tabs
    await tab.listens()
    await sender.send("bob", "told")
    await tab.shows(1)
    asked = _polls(proxy)
    sent = await _send_behind_its_back(server)
    timings.check("wake-up lost, sweep of 1 s: the badge shows 2", sent, await tab.shows(2), 2)
    assert proxy.passed["websocket"]
    assert _polls(proxy) == asked, "the socket alone has told it"


def _polls(proxy: Proxy) -> int:
    return proxy.passed["poll"] + proxy.passed["long poll"]


async def _says_that_it_is_old(tab: Tab) -> None:
    await expect(tab.connection).to_be_visible()
    await expect(tab.connection).to_have_text(re.compile(r"\b\d\d:\d\d\b"))


async def _send_behind_its_back(server: Server) -> float:
    """From alice to bob, out of this process; when it was committed."""
    async with _parts(server) as services:
        alice, bob = await services.accounts.find("alice"), await services.accounts.find("bob")
        assert alice
        assert bob
        await services.messages.send_message(alice.id, bob.id, "not told")
        return time.time()


@asynccontextmanager
async def _parts(server: Server) -> AsyncIterator[Services]:
    services = assemble(Settings(database_url=f"sqlite+aiosqlite:///{server.folder}/microblog.db"))
    try:
        yield services
    finally:
        await services.storage.close()

"""Outages of the server and of the network, and lost signals: tabs recover without a reload."""

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
from tests.browser.browser_users import BrowserUser, Sender, Tab
from tests.browser.durations import Durations
from tests.browser.proxy import Proxy
from tests.server_process import Server

RECOVERY = 7.0  # the interval of polls, its jitter and one second


async def test_tabs_show_offline_notice_and_recover_after_crash(
    server: Server, proxy: Proxy, alice: BrowserUser, bob: BrowserUser, durations: Durations
) -> None:
    await alice.tabs[0].open("/send_message/bob")
    await bob.tab("/user/alice")
    await asyncio.to_thread(server.stop, signal.SIGKILL)
    for tab in bob.tabs:
        await expect(tab.connection).to_be_hidden()
    for tab in bob.tabs:
        await _wait_for_offline_notice(tab)
    await asyncio.to_thread(server.start)
    sent = await alice.submit_message("after the crash")
    for tab in bob.tabs:
        durations.check("server back after a crash: the badge shows 1", sent, await tab.wait_for_badge(1), RECOVERY)
        await expect(tab.connection).to_be_hidden()


async def test_message_sent_before_tabs_reconnect_is_shown(
    server: Server, proxy: Proxy, alice: BrowserUser, bob: BrowserUser, durations: Durations
) -> None:
    await alice.send("bob", "before")
    (tab,) = bob.tabs
    await tab.wait_for_badge(1)
    await alice.tabs[0].open("/send_message/bob")
    proxy.refuses = {"websocket", "long poll", "poll"}
    assert await asyncio.to_thread(server.stop) == 0
    await asyncio.to_thread(server.start)
    sent = await alice.submit_message("right after the restart")
    assert await tab.history() == ["", "1"]
    proxy.refuses.clear()
    durations.check("server restarted: the badge shows 2", sent, await tab.wait_for_badge(2), RECOVERY)
    assert await tab.history() == ["", "1", "2"]
    await expect(tab.connection).to_be_hidden()


async def test_messages_sent_during_network_outage_are_shown(
    sender: Sender, proxy: Proxy, bob: BrowserUser, durations: Durations
) -> None:
    (tab,) = bob.tabs
    await proxy.down()
    for text in ("one", "two"):
        await sender.send("bob", text)
    await _wait_for_offline_notice(tab)
    assert await tab.history() == [""]
    await proxy.up()
    restored = time.time()
    durations.check("network back: the badge shows 2", restored, await tab.wait_for_badge(2), RECOVERY)
    await expect(tab.connection).to_be_hidden()


@pytest.mark.parametrize("environ", [{"MICROBLOG_SWEEP": "1"}], ids=["sweep of 1 s"])
async def test_sweep_finds_change_without_signal(
    server: Server, proxy: Proxy, sender: Sender, bob: BrowserUser, durations: Durations
) -> None:
    (tab,) = bob.tabs
    await tab.wait_for_frame()
    await sender.send("bob", "signalled")
    await tab.wait_for_badge(1)
    polls = _polls(proxy)
    sent = await _send_without_signal(server)
    durations.check("signal lost, sweep of 1 s: the badge shows 2", sent, await tab.wait_for_badge(2), 2)
    assert proxy.passed["websocket"]
    assert _polls(proxy) == polls, "received by the socket, not by a poll"


def _polls(proxy: Proxy) -> int:
    return proxy.passed["poll"] + proxy.passed["long poll"]


async def _wait_for_offline_notice(tab: Tab) -> None:
    await expect(tab.connection).to_be_visible()
    await expect(tab.connection).to_have_text(re.compile(r"^Offline\. Last updated .*\b\d\d?:\d\d\s[AP]M$"))


async def _send_without_signal(server: Server) -> float:
    """Send from alice to bob without a signal to the server process; return the Unix time of the commit."""
    async with _services(server) as services:
        alice, bob = await services.accounts.find("alice"), await services.accounts.find("bob")
        assert alice
        assert bob
        await services.messages.send_message(alice.id, bob.id, "no signal")
        return time.time()


@asynccontextmanager
async def _services(server: Server) -> AsyncIterator[Services]:
    services = assemble(Settings(database_url=f"sqlite+aiosqlite:///{server.folder}/microblog.db"))
    try:
        yield services
    finally:
        await services.storage.close()

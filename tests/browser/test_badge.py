"""The badge without failures."""

from tests.browser.browser_users import BrowserUser, Sender
from tests.browser.durations import Durations
from tests.browser.proxy import Proxy

SECOND = 1.0


async def test_badge_counts_each_message_within_a_second(
    alice: BrowserUser, bob: BrowserUser, proxy: Proxy, durations: Durations
) -> None:
    (tab,) = bob.tabs
    await tab.wait_for_badge(0)
    for count in (1, 2):
        sent = await alice.send("bob", f"message {count}")
        durations.check(f"WebSocket: the badge shows {count}", sent, await tab.wait_for_badge(count), SECOND)
    assert await tab.history() == ["", "1", "2"]
    assert proxy.passed["websocket"]
    assert not proxy.passed["long poll"]


async def test_opening_messages_clears_badge_in_all_tabs(
    sender: Sender, bob: BrowserUser, durations: Durations
) -> None:
    reading, other = bob.tabs[0], await bob.tab("/")
    for count in (1, 2):
        await sender.send("bob", f"message {count}")
        for tab in bob.tabs:
            await tab.wait_for_badge(count)
    opened = await reading.open("/messages")
    durations.check("WebSocket: the tab with the messages is cleared", opened, await reading.wait_for_badge(0), SECOND)
    durations.check("WebSocket: the other tab is cleared", opened, await other.wait_for_badge(0), SECOND)
    assert await reading.history() == ["2", ""]
    assert await other.history() == ["", "1", "2", ""]

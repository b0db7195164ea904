"""The badge without failures."""

from playwright.async_api import Route, expect

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


async def test_message_received_on_messages_page_stays_unread(sender: Sender, bob: BrowserUser) -> None:
    await sender.send("bob", "before")
    (tab,) = bob.tabs
    await tab.open("/messages")
    await tab.wait_for_badge(0)
    await expect(tab.new_messages).to_be_hidden()

    await sender.send("bob", "meanwhile")
    await tab.wait_for_badge(1)
    await expect(tab.new_messages).to_be_visible()
    await expect(tab.page.get_by_text("meanwhile")).to_have_count(0)
    await (await bob.tab("/")).wait_for_badge(1)

    await tab.new_messages.get_by_role("link").click()
    await expect(tab.page.get_by_text("meanwhile")).to_be_visible()
    await tab.wait_for_badge(0)


async def test_message_sent_before_mark_as_read_arrives_stays_unread(sender: Sender, bob: BrowserUser) -> None:
    await sender.send("bob", "shown")
    (tab,) = bob.tabs
    held: list[Route] = []
    await tab.page.route("**/messages/read", lambda route: held.append(route))
    async with tab.page.expect_request("**/messages/read"):
        await tab.open("/messages")
    await sender.send("bob", "not shown")
    await tab.wait_for_badge(2)

    await held[0].continue_()
    await tab.wait_for_badge(1)
    assert await tab.history() == ["1", "2", "1"]
    await expect(tab.new_messages).to_be_visible()
    await (await bob.tab("/")).wait_for_badge(1)

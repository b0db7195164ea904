"""The badge, while all is well."""

from playwright.async_api import Route, expect

from tests.browser.people import Human, Sender
from tests.browser.proxy import Proxy
from tests.browser.timings import Timings

SECOND = 1.0


async def test_the_badge_counts_each_message_within_a_second_and_without_a_reload(
    alice: Human, bob: Human, proxy: Proxy, timings: Timings
) -> None:
    (tab,) = bob.tabs
    await tab.shows(0)
    for count in (1, 2):
        sent = await alice.send("bob", f"message {count}")
        timings.check(f"WebSocket: the badge shows {count}", sent, await tab.shows(count), SECOND)
    assert await tab.history() == ["", "1", "2"]
    assert proxy.passed["websocket"]
    assert not proxy.passed["long poll"]


async def test_opening_messages_clears_the_badge_in_every_tab(sender: Sender, bob: Human, timings: Timings) -> None:
    reading, other = bob.tabs[0], await bob.tab("/")
    for count in (1, 2):
        await sender.send("bob", f"message {count}")
        for tab in bob.tabs:
            await tab.shows(count)
    opened = await reading.open("/messages")
    timings.check("WebSocket: the tab that reads is cleared", opened, await reading.shows(0), SECOND)
    timings.check("WebSocket: the other tab is cleared", opened, await other.shows(0), SECOND)
    assert await reading.history() == ["2", ""]
    assert await other.history() == ["", "1", "2", ""]


async def test_a_message_that_arrives_while_messages_is_open_stays_counted(sender: Sender, bob: Human) -> None:
    await sender.send("bob", "before")
    (tab,) = bob.tabs
    await tab.open("/messages")
    await tab.shows(0)
    await expect(tab.new_messages).to_be_hidden()

    await sender.send("bob", "meanwhile")
    await tab.shows(1)
    await expect(tab.new_messages).to_be_visible()
    await expect(tab.page.get_by_text("meanwhile")).to_have_count(0)
    await (await bob.tab("/")).shows(1)

    await tab.new_messages.get_by_role("link").click()
    await expect(tab.page.get_by_text("meanwhile")).to_be_visible()
    await tab.shows(0)


async def test_a_message_that_overtakes_the_mark_as_read_stays_counted(sender: Sender, bob: Human) -> None:
    await sender.send("bob", "shown")
    (tab,) = bob.tabs
    held: list[Route] = []
    await tab.page.route("**/messages/read", lambda route: held.append(route))
    async with tab.page.expect_request("**/messages/read"):
        await tab.open("/messages")
    await sender.send("bob", "not shown")
    await tab.shows(2)

    await held[0].continue_()
    await tab.shows(1)
    assert await tab.history() == ["1", "2", "1"]
    await expect(tab.new_messages).to_be_visible()
    await (await bob.tab("/")).shows(1)

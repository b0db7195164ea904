"""The messages page: what was shown is marked as read, and new messages are inserted."""

import re
from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.browser_users import BrowserUser, Sender, intercept_once, submit


async def send_many(sender: Sender, count: int) -> None:
    for number in range(count):
        await sender.send("bob", f"message {number}")


async def texts(page: Page) -> list[str]:
    """The messages on the page, from the top."""
    return await page.locator("#messages .text").all_inner_texts()


async def no_connection(route: Route) -> None:
    await route.abort()


async def test_only_the_messages_shown_are_marked(sender: Sender, bob: BrowserUser) -> None:
    await send_many(sender, 30)
    (tab,) = bob.tabs
    await tab.open("/messages?list=received")
    await tab.wait_for_badge(5)
    async with tab.page.expect_navigation():
        await tab.page.click("[rel=next]")
    assert await texts(tab.page) == [f"message {number}" for number in (4, 3, 2, 1, 0)]
    await expect(tab.page.locator("article.unread")).to_have_count(5)
    await tab.wait_for_badge(0)


async def test_older_page_alone_leaves_the_newer_messages_unread(sender: Sender, bob: BrowserUser) -> None:
    await send_many(sender, 30)
    (tab,) = bob.tabs
    await tab.page.route("**/messages/read", no_connection)
    await tab.open("/messages?list=received")
    older = await tab.page.get_attribute("[rel=next]", "href")
    assert older
    await tab.page.unroute("**/messages/read")
    await tab.open(older)
    await tab.wait_for_badge(25)


async def test_mark_all_as_read_is_a_button(sender: Sender, bob: BrowserUser) -> None:
    await send_many(sender, 30)
    (tab,) = bob.tabs
    await tab.open("/messages?list=received")
    await tab.wait_for_badge(5)
    await submit(tab.page, "#mark_all button")
    await tab.wait_for_badge(0)
    await expect(tab.page.locator("#mark_all")).to_be_hidden()


async def test_new_message_is_inserted_and_marked(sender: Sender, bob: BrowserUser) -> None:
    await sender.send("bob", "before")
    (tab,) = bob.tabs
    await tab.open("/messages?list=received")
    await tab.wait_for_badge(0)
    await sender.send("bob", "meanwhile")
    await expect(tab.page.get_by_text("meanwhile")).to_be_visible()
    await tab.wait_for_badge(0)
    assert await texts(tab.page) == ["meanwhile", "before"]


async def test_first_message_is_inserted_into_an_empty_page(sender: Sender, bob: BrowserUser) -> None:
    (tab,) = bob.tabs
    await tab.open("/messages?list=received")
    await sender.send("bob", "the first")
    await expect(tab.page.get_by_text("the first")).to_be_visible()
    await expect(tab.page.locator("#no_messages")).to_have_count(0)


async def test_inserted_message_moves_neither_the_text_nor_the_focus(sender: Sender, bob: BrowserUser) -> None:
    await send_many(sender, 25)
    (tab,) = bob.tabs
    await tab.open("/messages?list=received")
    await tab.wait_for_badge(0)
    reply = tab.page.locator("#messages li").last.get_by_role("link", name=re.compile("Reply"))
    await reply.focus()
    await reply.scroll_into_view_if_needed()
    before = await reply.bounding_box()
    await sender.send("bob", "not in view")
    await expect(tab.page.locator("#messages li")).to_have_count(26)
    await tab.wait_for_badge(1)  # it was not seen
    after = await reply.bounding_box()
    assert before
    assert after
    assert abs(before["y"] - after["y"]) < 1
    await expect(reply).to_be_focused()
    await tab.page.evaluate("window.scrollTo(0, 0)")
    await tab.wait_for_badge(0)


async def test_messages_are_inserted_although_the_count_fell_meanwhile(sender: Sender, bob: BrowserUser) -> None:
    """The count goes from 2 to 1, and one of the messages is new."""
    await sender.send("bob", "one")
    await sender.send("bob", "two")
    (tab,) = bob.tabs
    await tab.page.route("**/messages/read", no_connection)
    await tab.open("/messages?list=received")
    await tab.wait_for_badge(2)
    phone = await bob.context.new_page()
    await phone.route("**/notifications*", no_connection)
    await phone.goto("/messages?list=received")
    await expect(phone.locator("#message_count")).to_be_hidden()
    await phone.close()
    await sender.send("bob", "three")
    await expect(tab.page.get_by_text("three")).to_be_visible()


async def test_messages_that_arrived_in_the_background_are_inserted(sender: Sender, bob: BrowserUser) -> None:
    (tab,) = bob.tabs
    await tab.open("/messages?list=received")
    await tab.page.evaluate(
        "Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => 'hidden' })"
    )
    for number in range(3):
        await sender.send("bob", f"message {number}")
    await tab.wait_for_badge(3)
    assert await texts(tab.page) == []
    await tab.page.evaluate("delete document.visibilityState; document.dispatchEvent(new Event('visibilitychange'))")
    await expect(tab.page.locator("#messages li")).to_have_count(3)
    await tab.wait_for_badge(0)


async def portal(route: Route) -> None:
    await route.fulfill(status=200, content_type="text/html", body="Welcome to this network")


async def proxy(route: Route) -> None:
    await route.fulfill(status=403, content_type="text/html", body="Forbidden")


@pytest.mark.parametrize("answer", [no_connection, portal, proxy])
async def test_mark_without_a_valid_response_is_repeated(
    sender: Sender, bob: BrowserUser, answer: Callable[[Route], Awaitable[None]]
) -> None:
    await sender.send("bob", "hello")
    (tab,) = bob.tabs
    await intercept_once(tab.page, "**/messages/read", answer)
    await tab.open("/messages?list=received")
    await tab.wait_for_badge(0)


async def test_mark_that_is_refused_says_so(sender: Sender, bob: BrowserUser) -> None:
    await sender.send("bob", "hello")
    (tab,) = bob.tabs
    problem = {"status": 403, "content_type": "application/problem+json", "body": '{"code": "csrf_wrong"}'}
    await tab.page.route("**/messages/read", lambda route: route.fulfill(**problem))
    await tab.open("/messages?list=received")
    await expect(tab.page.locator("#mark_failed")).to_be_visible()
    await tab.wait_for_badge(1)

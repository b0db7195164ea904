"""The page of a conversation: messages arrive, are sent exactly once, and are marked as they are shown."""

import asyncio
import re

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.browser_users import BrowserUser, Sender, intercept_once, submit
from tests.browser.conftest import OpenBrowser
from tests.server_process import Server

API = "**/api/v1/messages"

# Records how much the page moves by itself, and what of it.
SHIFTS = """
() => {
  window.shifts = [];
  const moved = ({ sources }) => sources.map(({ node }) => node?.outerHTML?.slice(0, 90) ?? node?.nodeName);
  const note = (list) => {
    for (const each of list.getEntries()) if (!each.hadRecentInput) window.shifts.push([each.value, ...moved(each)]);
  };
  new PerformanceObserver(note).observe({ type: "layout-shift" });
}
"""


async def send_many(sender: Sender, count: int) -> None:
    for number in range(count):
        await sender.send("bob", f"message {number}")


async def texts(page: Page) -> list[str]:
    return await page.locator("#conversation .text").all_inner_texts()


async def type_and_send(page: Page, text: str) -> None:
    await page.fill("#message", text)
    await page.press("#message", "Enter")


async def no_connection(route: Route) -> None:
    await route.abort()


async def frames(page: Page) -> None:
    """Wait until what was changed has been painted."""
    await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


async def test_two_people_write_and_nothing_moves(alice: BrowserUser, bob: BrowserUser) -> None:
    (hers,), (his,) = alice.tabs, bob.tabs
    await hers.open("/messages/bob")
    await his.open("/messages/alice")
    await his.wait_for_frame()
    await frames(his.page)
    await his.page.evaluate(SHIFTS)
    for number in range(20):
        await type_and_send(hers.page, f"line {number}")
    expected = [f"line {number}" for number in range(20)]
    for tab in (hers, his):
        await expect(tab.page.locator("#conversation .line")).to_have_count(20)
        await expect(tab.page.locator("#conversation .pending")).to_have_count(0)
        assert await texts(tab.page) == expected
    await his.wait_for_badge(0)
    await expect(his.page.get_by_text("line 19")).to_be_in_viewport(ratio=1)
    await frames(his.page)
    assert await his.page.evaluate("window.shifts") == []
    await expect(his.page.locator("#conversation .other")).to_have_count(20)
    await expect(hers.page.locator("#conversation .own")).to_have_count(20)


async def test_arrival_moves_neither_the_text_nor_the_focus_of_a_reader(sender: Sender, bob: BrowserUser) -> None:
    await send_many(sender, 25)
    tab = await bob.tab("/messages/alice")
    for _ in range(3):
        await tab.page.evaluate("window.scrollTo({ top: document.body.scrollHeight, behavior: 'instant' })")
    await tab.page.evaluate("window.scrollTo({ top: 0, behavior: 'instant' })")
    mark = tab.page.get_by_role("button", name="Mark unread").first
    await mark.focus()
    before = await mark.bounding_box()
    await tab.page.evaluate(SHIFTS)
    await sender.send("bob", "not in view")
    await expect(tab.page.locator("#to_newest")).to_be_visible()
    await frames(tab.page)
    assert await mark.bounding_box() == before
    await expect(mark).to_be_focused()
    assert await tab.page.evaluate("window.shifts") == []
    await expect(tab.page.locator("#conversation .line").last).to_contain_text("not in view")
    await tab.page.click("#to_newest")
    await expect(tab.page.get_by_text("not in view")).to_be_in_viewport(ratio=1)
    await expect(tab.page.locator("#to_newest")).to_be_hidden()


async def test_marks_and_arrivals_move_nothing_in_a_full_conversation(sender: Sender, bob: BrowserUser) -> None:
    await send_many(sender, 30)
    released = asyncio.Event()

    async def hold(route: Route) -> None:
        await released.wait()
        await route.continue_()

    await bob.context.route("**/messages/read", hold)
    (tab,) = bob.tabs
    async with tab.page.expect_request("**/messages/read"):
        await tab.open("/messages/alice")
    await frames(tab.page)
    await tab.page.evaluate(SHIFTS)
    await expect(tab.page.locator("#mark_read")).to_be_visible()
    released.set()
    await expect(tab.page.locator("#mark_read")).to_be_hidden()
    await sender.send("bob", "the last")
    await expect(tab.page.locator("#conversation .line").last).to_contain_text("the last")
    await frames(tab.page)
    assert await tab.page.evaluate("window.shifts") == []


async def test_only_messages_that_were_in_view_are_marked(sender: Sender, bob: BrowserUser) -> None:
    await send_many(sender, 20)
    tab = await bob.tab("/")
    await tab.page.set_viewport_size({"width": 390, "height": 640})
    await tab.open("/messages/alice")
    shown = await tab.page.evaluate("""
      () => {
        const [top, bottom] = [".conversation-head", ".composer"].map((each) => document.querySelector(each));
        const from = top.getBoundingClientRect().bottom, to = bottom.getBoundingClientRect().top;
        const lines = [...document.querySelectorAll(".line")].map((line) => line.getBoundingClientRect());
        return lines.filter((box) => box.bottom > from && box.top < to).length;
      }
    """)
    assert 0 < shown < 20
    await tab.wait_for_badge(20 - shown)
    await tab.page.evaluate("window.scrollTo({ top: document.body.scrollHeight, behavior: 'instant' })")
    await expect(tab.page.locator("#first_unread")).to_be_hidden()


async def test_messages_of_other_people_stay_unread(
    open_browser: OpenBrowser, sender: Sender, bob: BrowserUser, server: Server
) -> None:
    await sender.send("bob", "of alice")
    await bob.send("bob", "to myself")
    tab = await bob.tab("/messages")
    await expect(tab.page.locator(".conversation-row")).to_have_count(2)
    await tab.page.get_by_role("link", name="bob", exact=True).last.click()
    await expect(tab.page.get_by_text("to myself")).to_be_visible()
    await tab.wait_for_badge(1)
    await tab.open("/messages/alice")
    await tab.wait_for_badge(0)


async def test_jump_to_the_first_unread_on_an_older_page(sender: Sender, bob: BrowserUser) -> None:
    await send_many(sender, 40)
    tab = await bob.tab("/")
    await tab.page.set_viewport_size({"width": 390, "height": 640})
    await bob.context.route("**/messages/read", no_connection)
    await tab.open("/messages/alice")
    async with tab.page.expect_navigation():
        await tab.page.get_by_role("link", name="Jump to the first unread").click()
    await expect(tab.page.get_by_text("message 0", exact=True)).to_be_in_viewport()
    await expect(tab.page.locator(".unread-line")).to_be_in_viewport()
    assert (await texts(tab.page))[:2] == ["message 0", "message 1"]


async def test_sent_message_is_pending_until_the_answer(sender: Sender, bob: BrowserUser) -> None:
    tab = await bob.tab("/messages/alice")
    held: list[Route] = []
    await tab.page.route(API, lambda route: held.append(route))
    async with tab.page.expect_request(API):
        await type_and_send(tab.page, "hello alice")
    line = tab.page.locator("#conversation .line")
    await expect(line).to_have_class("line own pending")
    await expect(line).to_contain_text("Sending…")
    await expect(tab.page.locator("#message")).to_have_value("")
    await expect(tab.page.locator("#message")).to_be_focused()
    before = await line.bounding_box()
    await held.pop().continue_()
    await expect(tab.page.locator("#conversation .line[data-key]")).to_contain_text("hello alice")
    await expect(line).to_have_count(1)
    await frames(tab.page)
    after = await line.bounding_box()
    assert before
    assert after
    assert (after["y"], after["height"]) == (before["y"], before["height"])


async def lose_response(route: Route) -> None:
    await route.fetch()
    await route.abort()


@pytest.mark.parametrize("fail", [no_connection, lose_response])
async def test_failed_message_is_sent_exactly_once_by_try_again(
    alice: BrowserUser, bob: BrowserUser, fail: object
) -> None:
    tab = await bob.tab("/messages/alice")
    keys: list[str | None] = []
    tab.page.on("request", lambda request: keys.append(request.headers.get("idempotency-key")))
    await intercept_once(tab.page, API, fail)  # type: ignore[arg-type]
    await type_and_send(tab.page, "exactly once")
    line = tab.page.locator("#conversation .line")
    await expect(line).to_contain_text("Not sent")
    await tab.page.get_by_role("button", name="Try again").click()
    await expect(tab.page.locator("#conversation .line[data-key]")).to_have_count(1)
    await expect(tab.page.locator(".pending")).to_have_count(0)
    assert len({key for key in keys if key}) == 1
    assert len([key for key in keys if key]) == 2
    hers = await alice.tab("/messages/bob")
    assert await texts(hers.page) == ["exactly once"]


async def test_failed_message_outlives_a_reload(alice: BrowserUser, bob: BrowserUser) -> None:
    tab = await bob.tab("/messages/alice")
    await tab.page.route(API, no_connection)
    await type_and_send(tab.page, "one")
    await type_and_send(tab.page, "two")
    await expect(tab.page.get_by_text("Not sent")).to_have_count(2)
    await tab.page.reload()
    await expect(tab.page.get_by_text("Not sent")).to_have_count(2)
    await tab.page.unroute(API)
    await tab.page.reload()
    await expect(tab.page.locator("#conversation .line[data-key]")).to_have_count(2)
    await expect(tab.page.locator(".pending")).to_have_count(0)
    hers = await alice.tab("/messages/bob")
    assert await texts(hers.page) == ["one", "two"]


async def test_messages_written_offline_are_sent_in_order_when_back(alice: BrowserUser, bob: BrowserUser) -> None:
    tab = await bob.tab("/messages/alice")
    await bob.context.set_offline(True)
    for text in ("one", "two", "three"):
        await type_and_send(tab.page, text)
    await expect(tab.page.get_by_text("Waiting for the connection")).to_have_count(3)
    await bob.context.set_offline(False)
    await expect(tab.page.locator("#conversation .line[data-key]")).to_have_count(3)
    await expect(tab.page.locator(".pending")).to_have_count(0)
    hers = await alice.tab("/messages/bob")
    assert await texts(hers.page) == ["one", "two", "three"]


async def test_queued_message_is_never_sent_by_another_account(
    alice: BrowserUser, bob: BrowserUser, server: Server
) -> None:
    (tab,) = bob.tabs
    await tab.open("/messages/alice")
    await tab.page.route(API, no_connection)
    await type_and_send(tab.page, "from bob")
    await expect(tab.page.get_by_text("Not sent")).to_be_visible()
    await tab.page.unroute(API)
    posted: list[str] = []
    tab.page.on("request", lambda request: posted.append(request.url) if "/api/" in request.url else None)
    await bob.context.clear_cookies()
    await tab.sign_in("alice", server.password)
    await tab.open("/messages/alice")
    await tab.wait_for_frame()
    assert posted == []
    await bob.context.clear_cookies()
    await tab.sign_in("bob", server.password)
    await tab.open("/messages/alice")
    await expect(tab.page.locator("#conversation .line[data-key]")).to_contain_text("from bob")
    hers = await alice.tab("/messages/bob")
    assert await texts(hers.page) == ["from bob"]


async def test_refused_message_says_why_and_can_be_discarded(bob: BrowserUser) -> None:
    tab = await bob.tab("/messages/alice")
    refusal = {"status": 422, "content_type": "application/problem+json", "body": '{"detail": "This is the reason."}'}
    await tab.page.route(API, lambda route: route.fulfill(**refusal))
    await type_and_send(tab.page, "refused")
    await expect(tab.page.locator(".failed")).to_contain_text("This is the reason.")
    await tab.page.get_by_role("button", name="Discard").click()
    await expect(tab.page.locator(".pending")).to_have_count(0)
    await expect(tab.page.locator("#message")).to_be_focused()
    await tab.page.unroute(API)
    await tab.page.reload()
    await expect(tab.page.locator("#conversation .line")).to_have_count(0)


async def test_mark_unread_shows_in_the_other_tab(sender: Sender, bob: BrowserUser) -> None:
    await send_many(sender, 3)
    other, tab = bob.tabs[0], await bob.tab("/messages/alice")
    for each in (other, tab):
        await each.wait_for_badge(0)
    await tab.page.locator(".line", has_text="message 1").get_by_role("button", name="Mark unread").press("Enter")
    for each in (other, tab):
        await each.wait_for_badge(2)
    await other.open("/messages")
    await expect(other.page.locator(".conversation-row .badge")).to_have_text("2")
    await expect(tab.page.locator(".line.unread")).to_have_count(3)  # one was unread when the page was loaded
    await sender.send("bob", "message 3")
    await expect(tab.page.get_by_text("message 3")).to_be_visible()
    await tab.wait_for_badge(2)  # what arrives is marked, and what was marked as unread stays so


async def test_keyboard_writes_lines_and_reaches_everything(sender: Sender, bob: BrowserUser) -> None:
    await send_many(sender, 2)
    tab = await bob.tab("/messages/alice")
    await tab.wait_for_badge(0)
    await tab.page.focus("#message")
    await tab.page.keyboard.type("two")
    await tab.page.keyboard.press("Shift+Enter")
    await tab.page.keyboard.type("lines")
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.locator("#conversation .own[data-key] .text")).to_have_text("two\nlines")
    await tab.page.keyboard.press("Shift+Tab")
    button = tab.page.get_by_role("button", name="Mark unread").last
    await expect(button).to_be_focused()
    await expect(button).to_have_css("opacity", "1")
    await tab.page.keyboard.press("Enter")
    await tab.wait_for_badge(1)
    await expect(button).to_be_focused()


async def test_unsent_text_outlives_a_reload(bob: BrowserUser) -> None:
    tab = await bob.tab("/messages/alice")
    await tab.page.fill("#message", "not yet sent")
    await tab.open("/")
    await tab.open("/messages/alice")
    await expect(tab.page.locator("#message")).to_have_value("not yet sent")
    await tab.page.press("#message", "Enter")
    await expect(tab.page.locator("#conversation .line[data-key]")).to_have_count(1)
    await tab.page.reload()
    await expect(tab.page.locator("#message")).to_have_value("")


async def test_list_shows_what_arrives(sender: Sender, bob: BrowserUser) -> None:
    tab = await bob.tab("/messages")
    await expect(tab.page.get_by_text("No messages yet")).to_be_visible()
    await sender.send("bob", "the first")
    await expect(tab.page.locator(".conversation-row")).to_contain_text("the first")
    await expect(tab.page.locator(".conversation-row .badge")).to_have_text("1")
    await tab.page.locator(".conversation-row a").focus()
    await sender.send("bob", "the second")
    await expect(tab.page.locator(".conversation-row .badge")).to_have_text("2")
    await expect(tab.page.locator(".conversation-row a")).to_be_focused()


async def test_conversation_works_without_javascript(open_browser: OpenBrowser, sender: Sender) -> None:
    await send_many(sender, 2)
    bob = await open_browser("bob", java_script_enabled=False)
    tab = await bob.tab("/messages")
    await tab.page.get_by_role("link", name="alice", exact=True).click()
    await expect(tab.badge).to_have_text("2")
    await submit(tab.page, "#mark_read button")
    await expect(tab.page).to_have_url(re.compile("/messages/alice$"))
    await expect(tab.badge).to_be_hidden()
    await tab.page.fill("#message", "an answer")
    await submit(tab.page, ".composer-row button")
    assert await texts(tab.page) == ["message 0", "message 1", "an answer"]
    await submit(tab.page, ".mark-unread >> nth=1")
    await expect(tab.page.get_by_role("heading", name="Messages")).to_be_visible()
    await expect(tab.badge).to_have_text("1")

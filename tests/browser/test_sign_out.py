"""Signing out ends all tabs of the browser."""

import time

from playwright.async_api import expect

from tests.browser.browser_users import POLL, SIGN_OUT, BrowserUser, Sender, submit
from tests.browser.conftest import OpenBrowser
from tests.browser.durations import Durations
from tests.server_process import Server


async def test_sign_out_in_one_tab_stops_the_other(
    open_browser: OpenBrowser, server: Server, sender: Sender, durations: Durations
) -> None:
    bob, other_browser = await open_browser(), await open_browser("bob")
    await bob.context.clock.install()
    first = await bob.sign_in("bob", server.password)
    second = await bob.tab("/")
    await sender.send("bob", "one")
    for tab in (first, second, *other_browser.tabs):
        await tab.wait_for_badge(1)
    await expect(second.signed_out).to_be_hidden()

    clicked = time.time()
    await submit(first.page, SIGN_OUT)
    durations.check("signed out in one tab: the other shows it", clicked, await second.wait_for_sign_out(), 1)

    requests: list[str] = []
    second.page.on("request", lambda request: requests.extend(POLL.findall(request.url)))
    second.page.on("websocket", lambda socket: requests.append(socket.url))
    await sender.send("bob", "two")
    await other_browser.tabs[0].wait_for_badge(2)
    await second.page.clock.run_for("10:00")
    assert not requests
    assert await second.history() == ["", "1"]
    await expect(second.badge).to_have_count(0)
    await expect(second.signed_out).to_be_visible()
    await expect(second.connection).to_be_hidden()


async def test_stale_tab_resumes_after_same_user_signs_in(
    open_browser: OpenBrowser, server: Server, sender: Sender, durations: Durations
) -> None:
    bob = await open_browser("bob")
    first, stale = bob.tabs[0], await bob.tab("/user/bob")
    await submit(first.page, SIGN_OUT)
    await stale.wait_for_sign_out()
    await first.page.route("**/static/*/rt/**", lambda route: route.abort())  # cannot resume the other tab
    await first.sign_in("bob", server.password)
    sent = await sender.send("bob", "after signing in again")
    await expect(stale.signed_out).to_be_visible()
    await stale.set_visible(False)
    await stale.set_visible(True)
    durations.check("signed in again: a tab that becomes visible", sent, await stale.wait_for_badge(1), 1)
    await expect(stale.signed_out).to_be_hidden()


async def test_new_page_of_same_user_resumes_stale_tabs(
    open_browser: OpenBrowser, server: Server, sender: Sender
) -> None:
    bob = await open_browser("bob")
    first, stale = bob.tabs[0], await bob.tab("/messages?list=received")
    await stale.set_visible(False)
    await submit(first.page, SIGN_OUT)
    await stale.wait_for_sign_out()
    await sender.send("bob", "while signed out")
    await first.sign_in("bob", server.password)
    await expect(stale.signed_out).to_be_hidden()
    await expect(stale.page.get_by_text("while signed out")).to_be_visible()


async def test_stale_tab_says_which_account_is_signed_in_now(
    open_browser: OpenBrowser, server: Server, alice: BrowserUser
) -> None:
    bob = await open_browser("bob")
    first, stale = bob.tabs[0], await bob.tab("/send_message/alice")
    await stale.page.fill("[name=message]", "from bob")
    await submit(first.page, SIGN_OUT)
    await stale.wait_for_sign_out()
    await expect(stale.page.locator(".bar")).to_have_count(0)
    await stale.set_visible(False)
    await first.sign_in("alice", server.password)
    await stale.set_visible(True)
    await expect(stale.signed_out).to_contain_text("You are signed in as alice now.")

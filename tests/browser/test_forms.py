"""Forms in a browser: they outlive restarts and sign-ins, and the text of a message is never lost."""

from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Response, expect

from tests.browser.browser_users import BrowserUser, Tab, intercept_once, submit
from tests.browser.conftest import OpenBrowser
from tests.browser.proxy import Proxy
from tests.server_process import Server

SIGN_OUT = "form[action='/auth/logout'] button"
SEND = "/send_message/alice"
TEXT = "a thought that took a while"
RESTORED = "#draft_restored"


async def type_message(page: Page, text: str = TEXT) -> None:
    await page.fill("[name=message]", text)


async def press_send(page: Page) -> Response:
    """Press Send; the response to the POST."""
    async with page.expect_response(lambda response: response.request.method == "POST") as post:
        await page.click("#submit")
    response: Response = await post.value
    await page.wait_for_load_state()
    return response


async def sign_in_here(page: Page, server: Server) -> None:
    """Sign in as bob with the form that the page shows."""
    await page.fill("[name=username]", "bob")
    await page.fill("[name=password]", server.password)
    await submit(page)


async def expect_text(page: Page, text: str = TEXT) -> None:
    await expect(page.locator("[name=message]")).to_have_value(text)


async def sent_to_alice(alice: BrowserUser) -> list[str]:
    """The messages on the recipient's page."""
    page = alice.tabs[0].page
    await page.goto("/messages?list=received")
    return await page.locator("ol.rows .text").all_inner_texts()


async def sign_in_again(user: BrowserUser, server: Server, name: str = "bob") -> None:
    await (await user.sign_in(name, server.password)).page.close()


async def end_session(user: BrowserUser) -> None:
    """Sign out on the server in a way that this browser's pages do not notice until they send."""
    cookies = [each for each in await user.context.cookies() if "_session" not in each["name"]]
    await user.context.clear_cookies()
    await user.context.add_cookies(cookies)  # type: ignore[arg-type]


@pytest_asyncio.fixture(loop_scope="session")
async def form(bob: BrowserUser) -> Page:
    """bob's send form to alice."""
    tab = bob.tabs[0]
    await tab.open(SEND)
    return tab.page


async def test_restored_tab_sends_after_a_browser_restart(
    open_browser: OpenBrowser, server: Server, alice: BrowserUser
) -> None:
    bob = await open_browser()
    tab = await bob.tab("/auth/login")
    await tab.page.fill("[name=username]", "bob")
    await tab.page.fill("[name=password]", server.password)
    await tab.page.check("[name=remember_me]")
    await submit(tab.page)
    await tab.open(SEND)
    restored = await tab.page.content()
    cookies = [each for each in await bob.context.cookies() if each["expires"] != -1]
    await bob.context.close()

    restarted = await open_browser(storage_state={"cookies": cookies})
    page = await restarted.context.new_page()
    await intercept_once(page, "**" + SEND, lambda route: route.fulfill(body=restored, content_type="text/html"))
    await page.goto(SEND)
    await type_message(page)
    await submit(page)
    assert await sent_to_alice(alice) == [TEXT]


async def test_tab_older_than_a_new_sign_in_sends(
    bob: BrowserUser, form: Page, server: Server, alice: BrowserUser
) -> None:
    await type_message(form)
    await end_session(bob)
    await sign_in_again(bob, server)
    await submit(form)
    await expect(form.get_by_text("Your message has been sent.")).to_be_visible()
    assert await sent_to_alice(alice) == [TEXT]


async def test_sign_out_in_a_stale_tab(bob: BrowserUser, server: Server) -> None:
    stale = bob.tabs[0].page
    await end_session(bob)
    await sign_in_again(bob, server)
    await submit(stale, SIGN_OUT)
    await expect(stale.get_by_text("You have signed out.")).to_be_visible()
    tab = await bob.tab("/messages?list=received")
    await expect(tab.page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_text_is_not_sent_under_another_account(
    server: Server, alice: BrowserUser, bob: BrowserUser, form: Page
) -> None:
    cookies = [each for each in await alice.context.cookies() if "_session" in each["name"]]
    await type_message(form)
    await end_session(bob)
    await bob.context.add_cookies(cookies)  # type: ignore[arg-type]
    assert (await press_send(form)).status == 403
    await expect(form.get_by_text("You are signed in as alice now. Nothing was sent.")).to_be_visible()
    await expect_text(form)
    assert await sent_to_alice(alice) == []
    await end_session(bob)
    await sign_in_again(bob, server)
    await submit(form)
    assert await sent_to_alice(alice) == [TEXT]


async def test_text_outlives_the_session(bob: BrowserUser, form: Page, server: Server) -> None:
    await type_message(form)
    await end_session(bob)
    assert (await press_send(form)).status == 401
    await expect(form.get_by_text("You are signed out. Nothing was sent.")).to_be_visible()
    await expect_text(form)
    await form.get_by_role("link", name="Sign in", exact=True).click()
    await sign_in_here(form, server)
    await form.goto(SEND)
    await expect(form.locator(RESTORED)).to_be_visible()
    await expect_text(form)


async def test_text_over_the_limit_without_a_session_is_kept(bob: BrowserUser, form: Page, server: Server) -> None:
    text = "long " * 1000
    await type_message(form, text)
    await end_session(bob)
    assert (await press_send(form)).status == 413
    await expect(form.get_by_text("You are signed out. Nothing was sent.")).to_be_visible()
    await form.get_by_role("link", name="Back to your message").click()
    await sign_in_here(form, server)
    await expect(form.locator(RESTORED)).to_be_visible()
    await expect_text(form, text)


async def test_signed_out_form_sends_after_signing_in_in_a_new_tab(
    bob: BrowserUser, form: Page, server: Server, alice: BrowserUser
) -> None:
    await type_message(form)
    await end_session(bob)
    await press_send(form)
    async with bob.context.expect_page() as opened:
        await form.get_by_role("link", name="Sign in (opens a new tab)").click()
    new_tab = await opened.value
    await new_tab.fill("[name=username]", "bob")
    await new_tab.fill("[name=password]", server.password)
    await submit(new_tab)
    await submit(form)
    assert await sent_to_alice(alice) == [TEXT]


async def test_text_is_kept_while_offline(bob: BrowserUser, form: Page, alice: BrowserUser) -> None:
    await type_message(form)
    await bob.context.set_offline(True)
    await form.click("#submit")
    await expect(form.get_by_text("You seem to be offline. Your text is kept.")).to_be_visible()
    await expect_text(form)
    await bob.context.set_offline(False)
    await expect(form.locator("#draft_offline")).to_be_hidden()
    await submit(form)
    assert await sent_to_alice(alice) == [TEXT]


async def test_text_is_kept_when_a_proxy_fails(form: Page, proxy: Proxy, alice: BrowserUser) -> None:
    await type_message(form)
    proxy.refuses = {"send"}
    assert (await press_send(form)).status == 502
    proxy.refuses = set()
    await form.goto(SEND)
    await expect(form.locator(RESTORED)).to_be_visible()
    await expect_text(form)
    await submit(form)
    assert await sent_to_alice(alice) == [TEXT]
    await form.goto(SEND)
    await expect(form.locator(RESTORED)).to_be_hidden()
    await expect_text(form, "")


@pytest.mark.parametrize(("length", "status"), [(141, 422), (100_000, 413)])
async def test_text_that_is_too_long_is_kept(form: Page, length: int, status: int) -> None:
    text = "x" * length
    await type_message(form, text)
    assert (await press_send(form)).status == status
    await form.goto(SEND)
    await expect_text(form, text)


async def test_lost_response_does_not_send_twice(form: Page, server: Server, alice: BrowserUser) -> None:
    await type_message(form)

    async def lose_response(route: Any) -> None:
        await route.fetch(max_redirects=0)
        await route.abort()

    await intercept_once(form, "**" + SEND, lose_response)
    async with form.expect_event("requestfailed"):
        await form.click("#submit")
    assert await sent_to_alice(alice) == [TEXT]
    await form.goto(SEND)
    await expect_text(form)
    await submit(form)
    await expect(form.get_by_text("This message was already sent.")).to_be_visible()
    assert await sent_to_alice(alice) == [TEXT]


async def test_send_after_back_sends_nothing_twice(form: Page, alice: BrowserUser) -> None:
    await type_message(form)
    await submit(form)
    await expect(form.get_by_text("Your message has been sent.")).to_be_visible()
    assert "#sent" not in form.url
    await form.go_back()
    await expect(form.locator(RESTORED)).to_be_hidden()
    await type_message(form)
    await submit(form)
    await expect(form.get_by_text("This message was already sent.")).to_be_visible()
    assert await sent_to_alice(alice) == [TEXT]


async def test_draft_can_be_discarded(form: Page) -> None:
    await type_message(form)
    await form.reload()
    await form.goto("/")
    await form.goto(SEND)
    await form.get_by_role("button", name="Discard it").click()
    await expect_text(form, "")
    await form.goto("/")
    await form.goto(SEND)
    await expect(form.locator(RESTORED)).to_be_hidden()
    await expect_text(form, "")


async def test_refused_cookies_are_named(open_browser: OpenBrowser, server: Server) -> None:
    visitor = await open_browser()
    tab = await visitor.tab("/auth/login")
    await visitor.context.clear_cookies()
    await tab.page.fill("[name=username]", "bob")
    await tab.page.fill("[name=password]", server.password)
    assert (await press_send(tab.page)).status == 403
    await expect(tab.page.get_by_text("This site needs cookies to sign you in.")).to_be_visible()


async def test_signed_out_page_shows_no_private_content(bob: BrowserUser, server: Server, alice: BrowserUser) -> None:
    await alice.send("bob", "for your eyes only")
    await bob.tabs[0].open("/send_message/bob")
    form, stale = bob.tabs[0].page, await bob.tab("/messages?list=received")
    await type_message(form)
    await expect(stale.page.get_by_text("for your eyes only")).to_be_visible()
    await submit((await bob.tab("/")).page, SIGN_OUT)
    for tab in (bob.tabs[0], stale):
        await tab.wait_for_sign_out()
        assert await private_words(tab) == []
        assert await tab.page.title() == "Microblog"
    await form.locator("#signed_out").get_by_role("link", name="Sign in").click()
    await form.fill("[name=username]", "bob")
    await form.fill("[name=password]", server.password)
    await submit(form)
    await expect(form.locator(RESTORED)).to_be_visible()
    await expect_text(form)


async def private_words(tab: Tab) -> list[str]:
    """What the content of a page shows beside the notice."""
    words: list[str] = await tab.page.locator("main > :not(#signed_out)").all_inner_texts()
    return words

"""Keyboard shortcuts in Chromium: the list, its focus, fields, and turning them off."""

from playwright.async_api import Page, expect

from tests.browser.browser_users import BrowserUser, Sender
from tests.browser.conftest import OpenBrowser


async def test_list_opens_and_closes_with_the_keyboard_alone(bob: BrowserUser) -> None:
    page = (await bob.tab("/people")).page
    link = page.get_by_role("link", name="alice", exact=True)
    await link.focus()
    await page.keyboard.press("?")
    shortcuts = page.get_by_role("dialog", name="Keyboard shortcuts")
    await expect(shortcuts).to_be_visible()
    await expect(shortcuts.get_by_role("link", name="Home")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(shortcuts).to_be_hidden()
    await expect(link).to_be_focused()
    await page.keyboard.press("?")
    for _ in range(4):
        await page.keyboard.press("Tab")
    await expect(shortcuts.get_by_role("button", name="Close")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(shortcuts).to_be_hidden()
    await expect(link).to_be_focused()


async def test_closed_list_leaves_no_focus_that_returns_later(bob: BrowserUser, sender: Sender) -> None:
    """The list was opened from the page itself; a change of the page then moves the focus nowhere."""
    tab = await bob.tab("/")
    await tab.page.keyboard.press("?")
    await tab.page.keyboard.press("Escape")
    await expect(tab.page.get_by_role("dialog")).to_be_hidden()
    await sender.send("bob", "hello bob")
    await tab.wait_for_badge(1)
    await expect(tab.page.locator("body")).to_be_focused()


async def test_each_key_opens_its_page(bob: BrowserUser) -> None:
    page = (await bob.tab("/user/alice")).page
    for key, path in (("m", "/messages"), ("h", "/"), ("n", "/")):
        await page.keyboard.press(key)
        await page.wait_for_url(f"**{path}")
        await expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_visible()
    await page.goto("/user/alice")
    await expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_visible()
    await page.keyboard.press("?")
    await page.keyboard.press("n")
    await page.wait_for_url("**/send_message/alice")


async def test_keys_are_typed_into_a_field(bob: BrowserUser) -> None:
    page = (await bob.tab("/send_message/alice")).page
    field = page.locator("#message")
    await expect(field).to_be_focused()
    await page.keyboard.type("hmn?")
    await expect(field).to_have_value("hmn?")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await page.get_by_role("button", name="Keyboard shortcuts").focus()
    await page.keyboard.press("n")
    await expect(field).to_be_focused()
    await expect(field).to_have_value("hmn?")


async def test_keys_can_be_turned_off(bob: BrowserUser) -> None:
    page = (await bob.tab("/")).page
    await page.get_by_role("button", name="Keyboard shortcuts").click()
    await page.get_by_label("Use these keys").uncheck()
    await page.keyboard.press("Escape")
    other = (await bob.tab("/")).page
    for each in (page, other):
        await _press_nothing(each)
    await other.get_by_role("button", name="Keyboard shortcuts").click()
    await other.get_by_label("Use these keys").check()
    await other.keyboard.press("m")
    await other.wait_for_url("**/messages")


async def test_button_is_hidden_without_javascript(open_browser: OpenBrowser) -> None:
    bob = await open_browser("bob", java_script_enabled=False)
    await expect(bob.tabs[0].page.get_by_role("button", name="Keyboard shortcuts")).to_be_hidden()
    await expect(bob.tabs[0].page.get_by_role("button", name="Dark")).to_be_visible()


async def _press_nothing(page: Page) -> None:
    """Press the keys, which do nothing."""
    await expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_visible()
    url = page.url
    for key in "?mh":
        await page.keyboard.press(key)
    await expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.url == url

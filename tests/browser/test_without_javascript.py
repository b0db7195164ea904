"""All features except live updates work without JavaScript."""

from playwright.async_api import expect

from tests.browser.browser_users import submit
from tests.browser.conftest import OpenBrowser

PASSWORD = "correct horse"


async def test_register_send_and_read_without_javascript(
    open_browser: OpenBrowser,
) -> None:
    carol = await open_browser(java_script_enabled=False)
    carols = await carol.tab("/auth/register")
    await carols.page.fill("[name=username]", "carol")
    await carols.page.fill("[name=password]", PASSWORD)
    await carols.page.fill("[name=password2]", PASSWORD)
    await submit(carols.page)
    await expect(carols.page.get_by_role("heading", name="Home")).to_be_attached()

    bob = await open_browser("bob", java_script_enabled=False)
    (tab,) = bob.tabs
    await expect(tab.badge).to_be_hidden()
    await carol.send("bob", "hello bob")
    await expect(carols.page.get_by_text("Your message has been sent.")).to_be_visible()
    await expect(tab.badge).to_be_hidden()
    await tab.page.reload()
    await expect(tab.badge).to_be_visible()
    await expect(tab.badge).to_have_text("1")

    await tab.page.get_by_role("link", name="Messages").click()
    await expect(tab.page.locator(".unread")).to_contain_text("hello bob")
    await expect(tab.badge).to_have_text("1")
    await submit(tab.page, "text=Mark all as read")
    await expect(tab.badge).to_be_hidden()
    await expect(tab.page.get_by_text("hello bob")).to_be_visible()
    await expect(tab.page.locator(".unread")).to_have_count(0)
    await expect(tab.page.get_by_role("button", name="Mark all as read")).to_have_count(0)

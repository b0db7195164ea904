"""A new password ends all other sessions; tabs of the same browser continue with its new session."""

from playwright.async_api import expect

from tests.browser.browser_users import Sender, response_time, submit
from tests.browser.conftest import OpenBrowser
from tests.browser.durations import Durations
from tests.server_process import Server


async def test_other_tabs_continue_after_password_change(
    open_browser: OpenBrowser, server: Server, sender: Sender, durations: Durations
) -> None:
    bob, other_browser = await open_browser("bob"), await open_browser("bob")
    form, other_tab, signed_out_tab = bob.tabs[0], await bob.tab("/"), other_browser.tabs[0]
    await sender.send("bob", "one")
    for tab in (form, other_tab, signed_out_tab):
        await tab.wait_for_badge(1)
    await form.open("/auth/change_password")
    for field, value in {"old_password": server.password, "password": "a new one", "password2": "a new one"}.items():
        await form.page.fill(f"[name={field}]", value)
    changed = response_time(await submit(form.page))
    ended = await signed_out_tab.wait_for_sign_out()
    durations.check("new password: a tab of another browser is signed out", changed, ended, 1)
    sent = await sender.send("bob", "two")
    durations.check("new password: the other tab, with the new session", sent, await other_tab.wait_for_badge(2), 6)
    await expect(other_tab.signed_out).to_be_hidden()
    await expect(signed_out_tab.signed_out).to_be_visible()
    assert await signed_out_tab.history() == ["", "1"]
    await expect(signed_out_tab.badge).to_have_count(0)

"""A new password ends every session but the changer's browser's: its other tabs go on, another browser's do not."""

from playwright.async_api import expect

from tests.browser.conftest import Arrive
from tests.browser.people import Sender, moment, submit
from tests.browser.timings import Timings
from tests.server_process import Server


async def test_the_other_tabs_of_the_browser_that_changed_it_go_on(
    arrive: Arrive, server: Server, sender: Sender, timings: Timings
) -> None:
    bob, elsewhere = await arrive("bob"), await arrive("bob")
    here, there, away = bob.tabs[0], await bob.tab("/"), elsewhere.tabs[0]
    await sender.send("bob", "one")
    for tab in (here, there, away):
        await tab.shows(1)
    await here.open("/auth/change_password")
    for field, word in {"old_password": server.password, "password": "a new one", "password2": "a new one"}.items():
        await here.page.fill(f"[name={field}]", word)
    changed = moment(await submit(here.page))
    ended = await away.is_signed_out()
    timings.check("a new password: another browser's tab says that it is signed out", changed, ended, 1)
    sent = await sender.send("bob", "two")
    timings.check("the changer's other tab, with the new session", sent, await there.shows(2), 6)
    await expect(there.signed_out).to_be_hidden()
    await expect(away.signed_out).to_be_visible()
    assert await away.history() == ["", "1"]

"""A new password ends every session but the changer's browser's: its other tabs go on, another browser's do not."""

import asyncio
import time

from playwright.async_api import expect

from tests.browser.conftest import Arrive
from tests.browser.people import PATIENCE, Sender, Tab, moment, submit
from tests.browser.timings import Timings
from tests.living import Server


async def signed_out(tab: Tab) -> float:
    """Wait until a tab says so; the moment."""
    await expect(tab.signed_out).to_be_visible(timeout=PATIENCE)
    return time.time()


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
    ended = asyncio.create_task(signed_out(away))
    changed = moment(await submit(here.page))
    timings.check("a new password: another browser's tab says that it is signed out", await ended - changed, 1)
    sent = await sender.send("bob", "two")
    timings.check("the changer's other tab, with the new session", await there.shows(2) - sent, 6)
    await expect(there.signed_out).to_be_hidden()
    await expect(away.signed_out).to_be_visible()
    assert await away.history() == ["", "1"]

"""Signing out ends every tab of that browser."""

import time

from playwright.async_api import expect

from tests.browser.conftest import Arrive
from tests.browser.people import Sender, submit
from tests.browser.timings import Timings
from tests.server_process import Server

SIGN_OUT = "form[action='/auth/logout'] button"


async def test_signing_out_in_one_tab_ends_the_other_and_nothing_more_arrives_there(
    arrive: Arrive, server: Server, sender: Sender, timings: Timings
) -> None:
    bob, witness = await arrive(), await arrive("bob")
    await bob.context.clock.install()
    here = await bob.sign_in("bob", server.password)
    there = await bob.tab("/")
    await sender.send("bob", "one")
    for tab in (here, there, *witness.tabs):
        await tab.shows(1)
    await expect(there.signed_out).to_be_hidden()

    pressed = time.time()
    await submit(here.page, SIGN_OUT)
    timings.check("signed out in one tab: the other says so", pressed, await there.is_signed_out(), 1)

    asked: list[str] = []
    there.page.on("request", lambda request: asked.append(request.url))
    there.page.on("websocket", lambda socket: asked.append(socket.url))
    await sender.send("bob", "two")
    await witness.tabs[0].shows(2)
    await there.page.clock.run_for("10:00")
    assert not asked
    assert await there.history() == ["", "1"]
    await expect(there.signed_out).to_be_visible()
    await expect(there.connection).to_be_hidden()

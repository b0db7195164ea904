"""Signing out ends all tabs of the browser."""

import time

from playwright.async_api import expect

from tests.browser.browser_users import Sender, submit
from tests.browser.conftest import OpenBrowser
from tests.browser.durations import Durations
from tests.server_process import Server

SIGN_OUT = "form[action='/auth/logout'] button"


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
    second.page.on("request", lambda request: requests.append(request.url))
    second.page.on("websocket", lambda socket: requests.append(socket.url))
    await sender.send("bob", "two")
    await other_browser.tabs[0].wait_for_badge(2)
    await second.page.clock.run_for("10:00")
    assert not requests
    assert await second.history() == ["", "1", ""]
    await expect(second.signed_out).to_be_visible()
    await expect(second.connection).to_be_hidden()

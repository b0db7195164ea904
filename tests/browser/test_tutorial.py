"""The poll loop of the original tutorial works unchanged with this server."""

import re
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Page, Request, Route, expect

from tests.browser.browser_users import POLL, Sender, submit
from tests.browser.conftest import OpenBrowser
from tests.browser.proxy import Proxy
from tests.server_process import Server

PERIOD = 10_000  # ms

LOOP = """
() => {
  function set_message_count(n) {
    const count = document.getElementById('message_count');
    count.innerText = n;
    count.style.visibility = n ? 'visible' : 'hidden';
  }

  function initialize_notifications() {
    let since = 0;
    setInterval(async function() {
      const response = await fetch('/notifications?since=' + since);
      const notifications = await response.json();
      for (let i = 0; i < notifications.length; i++) {
        if (notifications[i].name == 'unread_message_count')
          set_message_count(notifications[i].data);
        since = notifications[i].timestamp;
      }
    }, 10000);
  }

  initialize_notifications();
}
"""


async def test_tutorial_poll_loop_works_unchanged(
    open_browser: OpenBrowser, sender: Sender, server: Server, proxy: Proxy
) -> None:
    bob = await open_browser()
    await bob.context.route("**/static/*/rt/**", _abort)
    tab = await bob.sign_in("bob", server.password)
    page = tab.page
    cursors: list[float] = []
    page.on("request", lambda request: _record_cursor(request, cursors))
    await page.clock.install(time=0)
    await page.clock.pause_at(1000)
    await tab.open("/")
    await page.evaluate(LOOP)

    assert await _next_poll(page) == []
    received = []
    for count in (1, 2):
        await sender.send("bob", f"message {count}")
        received += await _next_poll(page)
        await expect(tab.badge).to_have_text(str(count))
    assert await _next_poll(page) == []

    messages = await bob.tab("/messages?list=received")
    await submit(messages.page, "#mark_all button")
    received += await _next_poll(page)
    await expect(tab.badge).to_have_text("0")
    await expect(tab.badge).to_be_hidden()

    assert [each["data"] for each in received] == [1, 2, 0]
    stamps = [each["timestamp"] for each in received]
    assert cursors == [0, 0, stamps[0], stamps[1], stamps[1]]
    assert not proxy.passed["long poll"]


async def _next_poll(page: Page) -> list[dict[str, float]]:
    """Advance the clock by the loop's ten seconds and return the notifications of its poll."""
    async with page.expect_response(re.compile(POLL)) as response:
        await page.clock.run_for(PERIOD)
    notifications: list[dict[str, float]] = await (await response.value).json()
    return notifications


async def _abort(route: Route) -> None:
    await route.abort()


def _record_cursor(request: Request, cursors: list[float]) -> None:
    url = urlsplit(request.url)
    if url.path == "/notifications":
        cursors.append(float(parse_qs(url.query)["since"][0]))

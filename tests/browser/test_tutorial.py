"""The poll loop of the tutorial that this project grew from: in its own shape, it works here as it is."""

import re
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Page, Request, Route, expect

from tests.browser.conftest import Arrive
from tests.browser.people import POLL, Sender, submit
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


async def test_the_poll_loop_of_the_tutorial_works_against_this_server(
    arrive: Arrive, sender: Sender, server: Server, proxy: Proxy
) -> None:
    bob = await arrive()
    await bob.context.route("**/static/rt/**", _abort)
    tab = await bob.sign_in("bob", server.password)
    page = tab.page
    asked: list[float] = []
    page.on("request", lambda request: _note(request, asked))
    await page.clock.install(time=0)
    await page.clock.pause_at(1000)
    await tab.open("/")
    await page.evaluate(LOOP)

    assert await _told(page) == []
    told = []
    for count in (1, 2):
        await sender.send("bob", f"message {count}")
        told += await _told(page)
        await expect(tab.badge).to_have_text(str(count))
    assert await _told(page) == []

    reading = await bob.tab("/messages")
    await submit(reading.page, "#mark_read button")
    told += await _told(page)
    await expect(tab.badge).to_have_text("0")
    await expect(tab.badge).to_be_hidden()

    assert [each["data"] for each in told] == [1, 2, 0]
    stamps = [each["timestamp"] for each in told]
    assert asked == [0, 0, stamps[0], stamps[1], stamps[1]]
    assert not proxy.passed["long poll"]


async def _told(page: Page) -> list[dict[str, float]]:
    """Let the loop's ten seconds pass, and return what it was answered."""
    async with page.expect_response(re.compile(POLL)) as waiting:
        await page.clock.run_for(PERIOD)
    told: list[dict[str, float]] = await (await waiting.value).json()
    return told


async def _abort(route: Route) -> None:
    await route.abort()


def _note(request: Request, asked: list[float]) -> None:
    url = urlsplit(request.url)
    if url.path == "/notifications":
        asked.append(float(parse_qs(url.query)["since"][0]))

"""Users with browsers: they sign in, send messages and open tabs whose badge is recorded."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from playwright.async_api import BrowserContext, Page, Request, Response, Route, expect

from tests.server_process import DEADLINE, Person

TIMEOUT = DEADLINE * 1000  # ms; durations are measured by the page and checked afterwards
expect.set_options(timeout=TIMEOUT)

SIGN_OUT = "form[action='/auth/logout'] button"
HELD_POLL = re.compile(r"/notifications\?.*\bwait=[1-9]")
POLL = re.compile(r"/notifications\?(?!.*\bwait=)")

# Runs in every page before its own scripts. Records each text of the badge with its time, and the time at which the
# page showed that the user is signed out.
RECORDER = """
window.badge_shown = [];
new MutationObserver(() => {
  const badge = document.querySelector("#message_count");
  const signedOut = document.querySelector("#signed_out");
  if (signedOut && !signedOut.hidden) window.signed_out_at ??= Date.now() / 1000;
  if (!badge) return;
  const text = badge.hidden ? "" : badge.textContent;
  if (window.badge_shown.at(-1)?.text !== text) window.badge_shown.push({ text, at: Date.now() / 1000 });
}).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
"""

VISIBILITY = """
state => {
  Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


class Tab:
    """A browser tab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.badge = page.locator("#message_count")
        self.connection = page.locator("#connection")
        self.signed_out = page.locator("#signed_out")
        self._frame_received = asyncio.Event()
        self._held_poll_sent = asyncio.Event()
        page.on("websocket", lambda socket: socket.on("framereceived", lambda _: self._frame_received.set()))
        page.on("request", self._check_held_poll)

    async def open(self, path: str) -> float:
        """Load ``path``; return the Unix time of the response."""
        self._frame_received.clear()
        self._held_poll_sent.clear()
        response = await self.page.goto(path)
        assert response
        return response_time(response)

    async def sign_in(self, name: str, password: str) -> None:
        """Sign in with the form. The tab then shows the start page."""
        await self.open("/auth/login")
        await self.page.fill("[name=username]", name)
        await self.page.fill("[name=password]", password)
        await submit(self.page)

    async def wait_for_badge(self, count: int) -> float:
        """Wait until the badge shows ``count`` (0: is hidden); return the Unix time of the change."""
        if count:
            await expect(self.badge).to_have_text("99+" if count > 99 else str(count))
            await expect(self.badge).to_be_visible()
        else:
            await expect(self.badge).to_be_hidden()
        return float((await self.recorded())[-1]["at"])

    async def wait_for_sign_out(self) -> float:
        """Wait until the page shows that the user is signed out; return the Unix time of the change."""
        await expect(self.signed_out).to_be_visible()
        return float(await self.page.evaluate("window.signed_out_at"))

    async def wait_for_frame(self) -> None:
        """Wait until the tab has received a WebSocket frame."""
        async with asyncio.timeout(DEADLINE):
            await self._frame_received.wait()

    async def wait_for_held_poll(self) -> None:
        """Wait until the tab has sent a long poll that the server holds."""
        async with asyncio.timeout(DEADLINE):
            await self._held_poll_sent.wait()

    async def set_visible(self, visible: bool) -> None:
        """Show or hide the page as a browser does when the user switches tabs. Playwright itself shows all pages."""
        await self.page.evaluate(VISIBILITY, "visible" if visible else "hidden")

    async def history(self) -> list[str]:
        """All texts of the badge since the page was loaded; "" while it was hidden."""
        return [each["text"] for each in await self.recorded()]

    async def recorded(self) -> list[dict[str, Any]]:
        """Every text of the badge since the page was loaded, with the Unix time at which it was shown."""
        recorded: list[dict[str, Any]] = await self.page.evaluate("window.badge_shown")
        return recorded

    def _check_held_poll(self, request: Request) -> None:
        if HELD_POLL.search(request.url):
            self._held_poll_sent.set()


class BrowserUser:
    """A user with a browser context: the tabs share cookies and storage, which other users do not see."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.tabs: list[Tab] = []

    async def tab(self, path: str) -> Tab:
        """Open ``path`` in a new tab."""
        tab = Tab(await self.context.new_page())
        self.tabs.append(tab)
        await tab.open(path)
        return tab

    async def sign_in(self, name: str, password: str) -> Tab:
        """Sign in with the form in a new tab; return the tab, which shows the start page."""
        tab = Tab(await self.context.new_page())
        self.tabs.append(tab)
        await tab.sign_in(name, password)
        return tab

    async def send(self, recipient: str, text: str) -> float:
        """Send with the form, in the first tab; return the Unix time of the 303."""
        page = self.tabs[0].page
        await page.goto(f"/send_message/{recipient}")
        return await self.submit_message(text)

    async def submit_message(self, text: str) -> float:
        """Send with the form already open in the first tab; return the Unix time of the 303."""
        page = self.tabs[0].page
        await page.fill("[name=message]", text)
        return response_time(await submit(page))


class Sender:
    """Sends messages and posts without a browser, for tests about the recipient."""

    def __init__(self, person: Person) -> None:
        self._person = person

    async def send(self, recipient: str, text: str) -> float:
        """Send a message; return the Unix time of the 303."""
        await asyncio.to_thread(self._person.send, recipient, text)
        return time.time()

    async def post(self, text: str) -> None:
        """Publish a post."""
        answer = await asyncio.to_thread(self._person.post, "/", post=text)
        assert answer.status_code == 303, answer.text


async def intercept_once(page: Page, url: str, handler: Callable[[Route], Awaitable[None]]) -> None:
    """Pass the next request for ``url`` to ``handler``, and later ones to the server.

    Playwright's ``times=1`` ends interception while the page is still loading, and Chromium then sometimes never
    resumes a request that it had paused (18 of 240 page loads on a busy machine, against 0 of 240).
    """
    handlers = [handler]

    async def intercept(route: Route) -> None:
        await (handlers.pop()(route) if handlers else route.continue_())

    await page.route(url, intercept)


async def submit(page: Page, button: str = "#submit") -> Response:
    """Click a form's button and wait for the next page; return the response to the POST, a 303."""
    async with page.expect_navigation(), page.expect_response(_is_post) as post:
        await page.click(button)
    response: Response = await post.value
    assert response.status == 303, f"{response.status} for {response.url}"
    return response


def response_time(response: Response) -> float:
    """The Unix time at which a response began, by the browser's clock."""
    timing = response.request.timing
    return (timing["startTime"] + timing["responseStart"]) / 1000


def _is_post(response: Response) -> bool:
    return response.request.method == "POST"

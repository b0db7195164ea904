"""People with browsers: signing in, sending, tabs whose badge is watched. Not here: what must come of it."""

import asyncio
import re
import time
from typing import Any

from playwright.async_api import BrowserContext, Page, Request, Response, expect

from tests.server_process import DEADLINE, Person

PATIENCE = DEADLINE * 1000  # ms; how long something took is measured by the page, and judged afterwards
expect.set_options(timeout=PATIENCE)

HELD = re.compile(r"/notifications\?.*\bwait=[1-9]")
POLL = re.compile(r"/notifications\?(?!.*\bwait=)")

# Runs in every page before its own scripts: what the badge has shown, and when, since this document began; and when
# it said that one is signed out.
WATCH = """
window.badge_shown = [];
new MutationObserver(() => {
  const badge = document.querySelector("#message_count");
  const end = document.querySelector("#signed_out");
  if (end && !end.hidden) window.signed_out_at ??= Date.now() / 1000;
  if (!badge) return;
  const text = badge.hidden ? "" : badge.textContent;
  if (window.badge_shown.at(-1)?.text !== text) window.badge_shown.push({ text, at: Date.now() / 1000 });
}).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
"""


class Tab:
    """One page of a person."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.badge = page.locator("#message_count")
        self.connection = page.locator("#connection")
        self.signed_out = page.locator("#signed_out")
        self.new_messages = page.locator("#new_messages")
        self._told = asyncio.Event()
        self._asked = asyncio.Event()
        page.on("websocket", lambda socket: socket.on("framereceived", lambda _: self._told.set()))
        page.on("request", self._note)

    async def open(self, path: str) -> float:
        """Load ``path``; the moment the answer came, in seconds since 1970."""
        self._told.clear()
        self._asked.clear()
        answer = await self.page.goto(path)
        assert answer
        return moment(answer)

    async def shows(self, count: int) -> float:
        """Wait until the badge shows ``count`` (0: nothing); the moment it did, in seconds since 1970."""
        if count:
            await expect(self.badge).to_have_text(str(count))
            await expect(self.badge).to_be_visible()
        else:
            await expect(self.badge).to_be_hidden()
        return float((await self._shown())[-1]["at"])

    async def is_signed_out(self) -> float:
        """Wait until the page says so; the moment it did, in seconds since 1970."""
        await expect(self.signed_out).to_be_visible()
        return float(await self.page.evaluate("window.signed_out_at"))

    async def listens(self) -> None:
        """Wait until it has been told something by a WebSocket."""
        async with asyncio.timeout(DEADLINE):
            await self._told.wait()

    async def asks(self) -> None:
        """Wait until it has asked what the server holds."""
        async with asyncio.timeout(DEADLINE):
            await self._asked.wait()

    async def history(self) -> list[str]:
        """Everything the badge has shown since the page was loaded; "" is nothing."""
        return [each["text"] for each in await self._shown()]

    async def _shown(self) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = await self.page.evaluate("window.badge_shown")
        return shown

    def _note(self, request: Request) -> None:
        if HELD.search(request.url):
            self._asked.set()


class Human:
    """Somebody with a browser of their own: their tabs share cookies and storage, and nobody else does."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.tabs: list[Tab] = []

    async def tab(self, path: str) -> Tab:
        """A new tab with ``path`` in it."""
        tab = Tab(await self.context.new_page())
        self.tabs.append(tab)
        await tab.open(path)
        return tab

    async def sign_in(self, name: str, password: str) -> Tab:
        """Sign in by the form; the tab that it was done in, with the start page in it."""
        tab = await self.tab("/auth/login")
        await tab.page.fill("[name=username]", name)
        await tab.page.fill("[name=password]", password)
        await submit(tab.page)
        return tab

    async def send(self, recipient: str, text: str) -> float:
        """Send by the form, in the first tab; the moment its 303 came, in seconds since 1970."""
        page = self.tabs[0].page
        await page.goto(f"/send_message/{recipient}")
        return await self.send_written(text)

    async def send_written(self, text: str) -> float:
        """The same, where the form is open already."""
        page = self.tabs[0].page
        await page.fill("[name=message]", text)
        return moment(await submit(page))


class Sender:
    """Somebody who only sends, without a browser: what a test is about is at the other end."""

    def __init__(self, person: Person) -> None:
        self._person = person

    async def send(self, recipient: str, text: str) -> float:
        """Send; the moment its 303 was there, in seconds since 1970."""
        await asyncio.to_thread(self._person.send, recipient, text)
        return time.time()


async def submit(page: Page, button: str = "#submit") -> Response:
    """Press a form's button and wait for the page that follows; returns the POST's answer, which is a 303."""
    async with page.expect_navigation(), page.expect_response(_is_post) as waiting:
        await page.click(button)
    answer: Response = await waiting.value
    assert answer.status == 303, f"{answer.status} for {answer.url}"
    return answer


def moment(answer: Response) -> float:
    """When an answer began to come, by the browser's own clock."""
    timing = answer.request.timing
    return (timing["startTime"] + timing["responseStart"]) / 1000


def _is_post(answer: Response) -> bool:
    return answer.request.method == "POST"

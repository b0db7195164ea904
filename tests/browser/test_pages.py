"""Every page: what it loads, what the browser complains of, and the language it is in."""

import asyncio

from playwright.async_api import BrowserContext, ConsoleMessage, Request

from tests.browser.conftest import Arrive
from tests.browser.people import Human, Sender
from tests.server_process import Server

ANONYMOUS = ["/", "/auth/login", "/auth/register"]
SIGNED_IN = ["/", "/user/alice", "/user/bob", "/messages", "/send_message/alice"]
SIGNED_IN += ["/auth/sessions", "/auth/change_password"]
WRONG = ["/nothing", "/user/nobody", "/messages?page=7"]


ABORTED = "net::ERR_ABORTED"


class Complaints(list[str]):
    """What a browser complains of: scripts, policies, requests."""

    def __init__(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.append(str(error.error)))
        context.on("requestfailed", self._failed)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.append(f"{message.page and message.page.url}: {message.text}")

    def _failed(self, request: Request) -> None:
        # A page that has found its socket gives up the poll that it began meanwhile.
        if not (request.failure == ABORTED and "/notifications?" in request.url):
            self.append(f"{request.url}: {request.failure}")


async def test_pages_for_everybody_load_no_module(arrive: Arrive) -> None:
    nobody = await arrive()
    asked: list[str] = []
    nobody.context.on("request", lambda request: asked.append(request.url))
    await _look_at(nobody, [*ANONYMOUS, *WRONG])
    assert any("/static/css/" in url for url in asked)
    assert not [url for url in asked if "/static/rt/" in url or "/notifications" in url]


async def test_no_page_makes_the_browser_complain(arrive: Arrive, server: Server, sender: Sender) -> None:
    await sender.send("bob", "hello bob")
    bob = await arrive()
    complaints = Complaints(bob.context)
    await _look_at(bob, ANONYMOUS)
    await bob.sign_in("bob", server.password)
    await _look_at(bob, SIGNED_IN)
    assert complaints == []


async def test_a_page_that_refuses_loads_all_it_needs(arrive: Arrive) -> None:
    bob = await arrive("bob")
    complaints = Complaints(bob.context)
    await _look_at(bob, WRONG)
    assert [line for line in complaints if "status of 404" not in line] == []
    assert len(complaints) == len(WRONG), "of the page itself, and of nothing else"


async def _look_at(human: Human, paths: list[str]) -> None:
    """Open each of ``paths`` in a tab of its own, and stay until all that they need is there."""
    # One after the other: so many at once may have a socket wait for longer than a page does.
    tabs = [await human.tab(path) for path in paths]
    await asyncio.gather(*(tab.page.wait_for_load_state("networkidle") for tab in tabs))

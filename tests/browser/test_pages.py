"""All pages: the files they load, and errors and warnings of the browser."""

import asyncio

from playwright.async_api import BrowserContext, ConsoleMessage, Request

from microblog_rt.web import static_files
from tests.browser.browser_users import BrowserUser, Sender
from tests.browser.conftest import OpenBrowser
from tests.browser.proxy import Proxy
from tests.server_process import Server

ANONYMOUS = ["/", "/auth/login", "/auth/register"]
SIGNED_IN = ["/", "/user/alice", "/user/bob", "/messages", "/send_message/alice"]
SIGNED_IN += ["/explore", "/people", "/mentions", "/edit_profile"]
SIGNED_IN += ["/auth/sessions", "/auth/change_password", "/auth/logout_everywhere"]
NOT_FOUND = ["/nothing", "/user/nobody", "/send_message/nobody"]


ABORTED = "net::ERR_ABORTED"


class BrowserErrors(list[str]):
    """Errors and warnings of a browser: scripts, policies, failed requests."""

    def __init__(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.append(str(error.error)))
        context.on("requestfailed", self._failed)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.append(f"{message.page and message.page.url}: {message.text}")

    def _failed(self, request: Request) -> None:
        # A page aborts its poll when its socket opens.
        if not (request.failure == ABORTED and "/notifications?" in request.url):
            self.append(f"{request.url}: {request.failure}")


async def test_anonymous_pages_load_no_browser_module(open_browser: OpenBrowser) -> None:
    visitor = await open_browser()
    urls: list[str] = []
    visitor.context.on("request", lambda request: urls.append(request.url))
    await _open_all(visitor, [*ANONYMOUS, *NOT_FOUND])
    assert any("/css/" in url for url in urls)
    assert not [url for url in urls if "/rt/" in url or "/notifications" in url]


async def test_pages_cause_no_browser_errors(open_browser: OpenBrowser, server: Server, sender: Sender) -> None:
    await sender.send("bob", "hello bob")
    bob = await open_browser()
    errors = BrowserErrors(bob.context)
    await _open_all(bob, ANONYMOUS)
    await bob.sign_in("bob", server.password)
    await _open_all(bob, SIGNED_IN)
    assert errors == []


async def test_error_pages_load_all_their_files(open_browser: OpenBrowser) -> None:
    bob = await open_browser("bob")
    errors = BrowserErrors(bob.context)
    await _open_all(bob, NOT_FOUND)
    assert [line for line in errors if "status of 404" not in line] == []
    assert len(errors) == len(NOT_FOUND), "one error per page, for the page itself"


async def _open_all(user: BrowserUser, paths: list[str]) -> None:
    """Open each of ``paths`` in its own tab and wait until all files are loaded."""
    # Not concurrently: with so many pages at once a socket may exceed its time-out.
    tabs = [await user.tab(path) for path in paths]
    await asyncio.gather(*(tab.page.wait_for_load_state("networkidle") for tab in tabs))


async def test_repeat_view_is_one_request(open_browser: OpenBrowser, proxy: Proxy) -> None:
    """Beside the connection for notifications."""
    bob = await open_browser("bob")
    tab = bob.tabs[0]
    await tab.open("/send_message/alice")
    await tab.page.wait_for_load_state("networkidle")
    assert len([each for each in proxy.targets if "/rt/" in each]) == len({*proxy.targets} & {*modules()})
    for path in ("/", "/messages", "/send_message/alice", "/"):
        before = len(proxy.targets)
        await tab.open(path)
        await tab.wait_for_frame()
        sent = [each for each in proxy.targets[before:] if not each.startswith("/notifications?")]
        assert sent == [path]


def modules() -> list[str]:
    names = {*static_files.modules("rt/main.js"), *static_files.modules("rt/send_form.js")}
    return [f"/static/{static_files.current_version()}/{name}" for name in names]

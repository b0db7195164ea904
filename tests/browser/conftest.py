"""One Chromium for all browser tests; for each test a server, a proxy and users with empty browsers."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, WebError, async_playwright

from tests.browser.browser_users import RECORDER, TIMEOUT, BrowserUser, Sender
from tests.browser.durations import Durations
from tests.browser.proxy import Proxy
from tests.server_process import Server

# The same browser without its own windows and services, which costs less, where Debian has it.
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DURATIONS = pytest.StashKey[Durations]()

OpenBrowser = Callable[..., Awaitable[BrowserUser]]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[DURATIONS] = Durations()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A playwright browser works only in the event loop that started it.
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("asyncio"):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash[DURATIONS].lines:
        terminalreporter.section("measured durations")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def durations(pytestconfig: pytest.Config) -> Iterator[Durations]:
    """Measured durations; written to pytest's cache as browser/durations.txt."""
    durations = pytestconfig.stash[DURATIONS]
    with durations.load:
        yield durations
    if cache := getattr(pytestconfig, "cache", None):
        durations.write(cache.mkdir("browser") / "durations.txt")


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The installed Chromium, not a download of playwright."""
    assert CHROMIUM, "Chromium is missing: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=TIMEOUT)
        yield browser
        await browser.close()


@pytest.fixture
def environ() -> dict[str, str]:
    """Settings of the server; tests override them with parametrize."""
    return {}


@pytest.fixture
def server(tmp_path: Path, environ: dict[str, str]) -> Iterator[Server]:
    """A server process with the demo accounts, in an empty folder. Its log must contain no traceback."""
    with Server(tmp_path, environ=environ) as server:
        yield server
    assert "Traceback" not in server.logged(), server.logged()


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    """The proxy between all browsers and the server."""
    async with Proxy(server.port) as proxy:
        yield proxy


@pytest_asyncio.fixture(loop_scope="session")
async def open_browser(chromium: Browser, server: Server, proxy: Proxy) -> AsyncIterator[OpenBrowser]:
    """A function that opens an empty browser, signed in as ``name`` if given. The test fails on a script error."""
    users: list[BrowserUser] = []
    failures: list[str] = []

    async def open_browser(name: str | None = None, **options: Any) -> BrowserUser:
        context = await chromium.new_context(**{"base_url": proxy.url} | options)
        context.set_default_timeout(TIMEOUT)
        context.on("weberror", lambda error: failures.append(_format(error)))
        await context.add_init_script(RECORDER)
        user = BrowserUser(context)
        users.append(user)
        if name:
            await user.sign_in(name, server.password)
        return user

    yield open_browser
    for user in users:
        await user.context.close()
    assert not failures, failures


@pytest_asyncio.fixture(loop_scope="session")
async def alice(open_browser: OpenBrowser) -> BrowserUser:
    return await open_browser("alice")


@pytest.fixture
def sender(server: Server) -> Iterator[Sender]:
    """alice without a browser."""
    person = server.person("alice")
    yield Sender(person)
    person.close()


@pytest_asyncio.fixture(loop_scope="session")
async def bob(open_browser: OpenBrowser) -> BrowserUser:
    return await open_browser("bob")


def _format(error: WebError) -> str:
    page = error.page.url if error.page else ""
    return f"{page}: {error.error}"

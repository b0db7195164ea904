"""One Chromium for all browser tests; for each a server, a proxy before it, people with empty browsers."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, WebError, async_playwright

from tests.browser.people import PATIENCE, WATCH, Human, Sender
from tests.browser.proxy import Proxy
from tests.browser.timings import Timings
from tests.server_process import Server

CHROMIUM = shutil.which("/usr/bin/chromium") or shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
TIMINGS = pytest.StashKey[Timings]()

Arrive = Callable[..., Awaitable[Human]]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TIMINGS] = Timings()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A browser belongs to the event loop that it was started in.
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("asyncio"):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash[TIMINGS].lines:
        terminalreporter.section("how long people waited")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def timings(pytestconfig: pytest.Config) -> Iterator[Timings]:
    """What is measured; kept in pytest's cache as browser/timings.txt."""
    timings = pytestconfig.stash[TIMINGS]
    with timings.watch:
        yield timings
    if cache := getattr(pytestconfig, "cache", None):
        timings.write(cache.mkdir("browser") / "timings.txt")


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The browser of the machine, never one that playwright would load."""
    assert CHROMIUM, "these tests want a Chromium: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=PATIENCE)
        yield browser
        await browser.close()


@pytest.fixture
def environ() -> dict[str, str]:
    """Settings of the server; a test gives its own by parametrize."""
    return {}


@pytest.fixture
def server(tmp_path: Path, environ: dict[str, str]) -> Iterator[Server]:
    """A server process of its own, with the demo accounts, in an empty folder; its log stays clean."""
    with Server(tmp_path, environ=environ) as server:
        yield server
    assert "Traceback" not in server.logged(), server.logged()


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    """What stands between every browser and the server."""
    async with Proxy(server.port) as proxy:
        yield proxy


@pytest_asyncio.fixture(loop_scope="session")
async def arrive(chromium: Browser, server: Server, proxy: Proxy) -> AsyncIterator[Arrive]:
    """A function: somebody with an empty browser, signed in as ``name`` if given one. No script may fail."""
    everybody: list[Human] = []
    failures: list[str] = []

    async def arrive(name: str | None = None, **options: Any) -> Human:
        context = await chromium.new_context(base_url=proxy.url, **options)
        context.set_default_timeout(PATIENCE)
        context.on("weberror", lambda error: failures.append(_told(error)))
        await context.add_init_script(WATCH)
        human = Human(context)
        everybody.append(human)
        if name:
            await human.sign_in(name, server.password)
        return human

    yield arrive
    for human in everybody:
        await human.context.close()
    assert not failures, failures


@pytest_asyncio.fixture(loop_scope="session")
async def alice(arrive: Arrive) -> Human:
    return await arrive("alice")


@pytest.fixture
def sender(server: Server) -> Iterator[Sender]:
    """alice, where her own browser is of no interest."""
    person = server.person("alice")
    yield Sender(person)
    person.close()


@pytest_asyncio.fixture(loop_scope="session")
async def bob(arrive: Arrive) -> Human:
    return await arrive("bob")


def _told(error: WebError) -> str:
    page = error.page.url if error.page else ""
    return f"{page}: {error.error}"

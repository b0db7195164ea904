"""The CPU of a page view by a browser that has everything in its cache: the page, and what must be asked again."""

import asyncio
import re
from typing import NamedTuple
from urllib.parse import urljoin

from tests.server_process import Server

from benchmarks import meter
from benchmarks.browser import Answer, Browser, connected, sender
from benchmarks.results import Figure
from benchmarks.world import Person, World

VIEWS, WARM_UP = 200, 50
MESSAGES = 25  # a full page
GOAL = 3.0  # ms
LINKED = re.compile(r'(?:<link\b[^>]*\bhref|<script\b[^>]*\bsrc)="([^"]+)"')
IMPORTED = re.compile(r'^import .*"(\./[^"]+)"', re.MULTILINE)


class Cached(NamedTuple):
    """A file in the browser's cache that must be asked again: its path, and the conditional header."""

    path: str
    condition: str


def run(world: World) -> list[Figure]:
    """View a user's page, then a full inbox, again and again."""
    with world.serving() as (server, pid):
        return asyncio.run(_measured(server, pid, world))


async def _measured(server: Server, pid: int, world: World) -> list[Figure]:
    person = world.subscribers[0]
    async with sender(server.port, world.senders[0]) as message_sender:
        for _ in range(MESSAGES):
            await message_sender.send(person.name)
    return [
        await _viewed(server, pid, person, f"/user/{person.name}", "CPU of a page view, everything cached", GOAL),
        await _viewed(
            server, pid, person, "/messages?list=received", f"  the same, an inbox with {MESSAGES} messages", None
        ),
    ]


async def _viewed(server: Server, pid: int, person: Person, path: str, label: str, goal: float | None) -> Figure:
    with connected(server.port) as browser:
        files, again = await _visited(browser, person, path)
        for _ in range(WARM_UP):
            await _view(browser, person, path, again)
        watch = meter.Stopwatch(pid)
        for _ in range(VIEWS):
            await _view(browser, person, path, again)
        used = watch.used()
    note = f"{len(again)} of {files} files are asked again; without the tab's connection"
    return Figure(label, "ms", used.server / VIEWS * 1e3, goal, used.load / VIEWS * 1e3, note)


async def _visited(browser: Browser, person: Person, path: str) -> tuple[int, list[Cached]]:
    """Fetch the page and its files: the number of files, and those that a later view asks for again."""
    page = await browser.get(path, person.cookie)
    waiting, again, seen = [urljoin(path, each) for each in LINKED.findall(page.body.decode())], [], set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        answer = await browser.get(file, person.cookie)
        assert answer.status == 200, (file, answer)
        if file.endswith(".js"):
            waiting += [urljoin(file, each) for each in IMPORTED.findall(answer.body.decode())]
        if "max-age" not in answer.header("Cache-Control"):
            again.append(Cached(file, _condition(answer)))
    assert seen, page
    return len(seen), again


def _condition(answer: Answer) -> str:
    tag = answer.header("ETag")
    return f"If-None-Match: {tag}\r\n" if tag else ""


async def _view(browser: Browser, person: Person, path: str, again: list[Cached]) -> None:
    page = await browser.get(path, person.cookie)
    assert page.status == 200, page
    for file, condition in again:
        answer = await browser.get(file, person.cookie, condition)
        assert answer.status in (200, 304), answer

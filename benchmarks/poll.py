"""The CPU of polls: with nothing new, one request at a time; and held ones, from open to answer."""

import asyncio
import json
import re
import socket
from contextlib import ExitStack

from tests.server_process import Server

from benchmarks import meter
from benchmarks.browser import Browser, connected, get_request, sender
from benchmarks.meter import NOTHING, Used
from benchmarks.peers import tutorial
from benchmarks.results import Figure
from benchmarks.world import Person, World

POLLS, WARM_UP = 3000, 300
GOAL = 50.0  # times less than Flask
HELD, ROUNDS, WAIT = 500, 5, 25  # held polls at once; how often; seconds
GOAL_HELD = 60.0  # µs
TAIL = 0.1  # seconds
PATIENCE = 30.0
LABEL = "CPU of a poll with nothing new"
EMPTY = b"\r\n\r\n[]"
NAME = b'"unread_message_count"'
HOLDS = re.compile(r'^microblog_tabs{transport="long_poll"} (\d+)', re.MULTILINE)


def run(world: World, flask: bool) -> list[Figure]:
    """Poll with a current cursor; then hold polls until a message arrives."""
    with world.serving() as (server, pid):
        used = asyncio.run(_ours(server, pid, world))
    figures = [Figure(LABEL, "µs", used.server, GOAL, used.load, against=tutorial.NAME)]
    if flask:
        with tutorial.on_sqlite() as peer:
            theirs = asyncio.run(_flask(peer))
        figures.append(Figure(LABEL, "µs", theirs.server, load=theirs.load, subject=tutorial.NAME))
    with world.serving() as (server, pid):
        held = asyncio.run(_held(server, pid, world))
    return [*figures, Figure("CPU of a held poll, from open to answer", "µs", held.server, GOAL_HELD, held.load)]


async def _ours(server: Server, pid: int, world: World) -> Used:
    person = world.subscribers[0]
    async with sender(server.port, world.senders[0]) as message_sender:
        await message_sender.send(person.name)
    return await polls(server.port, pid, person)


async def _flask(peer: tutorial.Running) -> Used:
    person, other = await tutorial.sign_in(peer, "user0"), await tutorial.sign_in(peer, "user1")
    async with sender(peer.port, other) as message_sender:
        await message_sender.send(person.name)
    return await polls(peer.port, peer.pid, person)


async def polls(port: int, pid: int, person: Person, count: int = POLLS) -> Used:
    """Microseconds per poll of a user who has a notification."""
    with connected(port) as browser:
        cursor = await _cursor(browser, person)
    request = get_request(port, f"/notifications?since={cursor!r}", person.cookie)
    with Poller(port) as poller:
        for _ in range(WARM_UP):
            poller.ask(request)
            poller.answer(EMPTY)
        watch = meter.Stopwatch(pid)
        for _ in range(count):
            poller.ask(request)
            poller.answer(EMPTY)
        used = watch.used()
    return _each(used, count)


class Poller:
    """A blocking connection, the cheapest client; opened again for servers that close it after each answer."""

    def __init__(self, port: int) -> None:
        self._address = "127.0.0.1", port
        self._socket = socket.create_connection(self._address, PATIENCE)

    def ask(self, request: bytes) -> None:
        """Send a poll."""
        self._socket.sendall(request)

    def answer(self, expected: bytes) -> None:
        """Receive its answer, up to the bytes that are expected in it."""
        answer = b""
        while expected not in answer:
            more = self._socket.recv(65536)
            assert more, answer
            answer += more
        assert answer.startswith(b"HTTP/1.1 200"), answer
        if b"onnection: close" in answer:
            self._socket.close()
            self._socket = socket.create_connection(self._address, PATIENCE)

    def __enter__(self) -> "Poller":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


async def _cursor(browser: Browser, person: Person) -> float:
    answer = await browser.get("/notifications?since=0", person.cookie)
    return float(json.loads(answer.body)[-1]["timestamp"])


async def _held(server: Server, pid: int, world: World) -> Used:
    """Microseconds per held poll: all of one user, answered by one message each time."""
    person, absent = world.subscribers[0], world.absent[0]
    async with sender(server.port, world.senders[0]) as message_sender:
        await message_sender.send(person.name)
        with ExitStack() as stack:
            browser = stack.enter_context(connected(server.port))
            pollers = [stack.enter_context(Poller(server.port)) for _ in range(HELD)]
            request = get_request(server.port, "/notifications?since=0", person.cookie)
            used = NOTHING
            for number in range(1 + ROUNDS):
                watch = meter.Stopwatch(pid)
                for poller in pollers:
                    poller.ask(request)
                while number and await _holds(browser) < HELD:  # noqa: ASYNC110
                    await asyncio.sleep(TAIL)
                await message_sender.send(person.name)
                for poller in pollers:
                    poller.answer(NAME)
                await asyncio.sleep(TAIL)
                cursor = await _cursor(browser, person)
                delivered = watch.used()
                watch = meter.Stopwatch(pid)
                await _holds(browser)
                await message_sender.send(absent.name)
                await asyncio.sleep(TAIL)
                await _cursor(browser, person)
                if number:  # the first polls only open the connections
                    used += delivered - watch.used()
                path = f"/notifications?since={cursor!r}&wait={WAIT}"
                request = get_request(server.port, path, person.cookie)
    return _each(used, HELD * ROUNDS)


async def _holds(browser: Browser) -> int:
    """The number of long polls that the server holds, from its metrics."""
    found = HOLDS.search((await browser.get("/metrics", "")).body.decode())
    return int(found[1]) if found else 0


def _each(used: Used, count: int) -> Used:
    return Used(*(seconds / count * 1e6 for seconds in used))

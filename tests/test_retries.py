"""A send with an unknown outcome is repeated, to another process: it is stored once (I2).

Real servers on one PostgreSQL. See also: ``test_interleavings.py``.
"""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import asyncpg
import httpx
import pytest

from microblog_rt.storage import migrations
from tests.conftest import KEY
from tests.server_process import DEADLINE, Server
from tests.services import PostgreSQL

TIMES = 5
EACH = 4  # attempts in each process
NAMES = ("one", "two")
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER


class Pair:
    """Two processes on one database, and alice signed in to each."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self.alice = [server.person("alice") for server in servers]
        self.bob = servers[0].person("bob")
        self.tokens = [alice.token() for alice in self.alice]

    def request(self, process: int, key: str, text: str) -> httpx.Request:
        headers = {"Origin": self.servers[process].url, "X-CSRFToken": self.tokens[process], "Idempotency-Key": key}
        return self.alice[process].client.build_request(
            "POST", "/send_message/bob", data={"message": text}, headers=headers
        )

    def send(self, process: int, key: str, text: str) -> int:
        return self.alice[process].client.send(self.request(process, key, text)).status_code

    def close(self) -> None:
        for person in (*self.alice, self.bob):
            person.close()

    def cursor(self, since: float, wait: int = 0) -> float:
        """The cursor after bob's poll."""
        notifications = self.bob.client.get("/notifications", params={"since": since, "wait": wait}).json()
        return float(notifications[-1]["timestamp"]) if notifications else since


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL) -> Iterator[Pair]:
    url = postgresql.database()
    migrations.upgrade(url)
    environ = {"MICROBLOG_DATABASE_URL": url, "MICROBLOG_SECRET_KEY": KEY}
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(tmp_path_factory.mktemp(name), environ=environ)) for name in NAMES]
        pair = Pair(servers)
        yield pair
        pair.close()
    # By now they have finished their writes.
    counted = asyncio.run(bodies(url))
    assert counted, "the precondition"
    assert set(counted.values()) == {1}, counted
    assert [server.warnings_logged() for server in servers] == [[], []]


async def bodies(url: str) -> Counter[str]:
    """Every message, read directly from the database."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    found = await connection.fetch("SELECT body FROM message")
    await connection.close()
    return Counter(each["body"] for each in found)


def test_concurrent_retries_to_two_processes_send_once(pair: Pair) -> None:
    with ThreadPoolExecutor(2 * EACH) as pool:
        for number in range(TIMES):
            tries = [pool.submit(pair.send, n % 2, f"same {number}", f"same {number}") for n in range(2 * EACH)]
            assert [each.result() for each in tries] == [303] * 2 * EACH


def test_one_key_with_two_texts_sends_only_one(pair: Pair) -> None:
    with ThreadPoolExecutor(2 * EACH) as pool:
        for number in range(TIMES):
            tries = [pool.submit(pair.send, n % 2, f"split {number}", f"{n % 2} {number}") for n in range(2 * EACH)]
            answers = [each.result() for each in tries]
            assert {tuple(answers[::2]), tuple(answers[1::2])} == {(303,) * EACH, (422,) * EACH}


@pytest.mark.parametrize("committed", [True, False])
def test_retry_after_a_lost_connection_gets_the_first_result(pair: Pair, committed: bool) -> None:
    """After the message is committed but its response unread, or at any earlier point of the first try."""
    for number in range(TIMES):
        text = f"cut {committed} {number}"
        before = pair.cursor(0)
        with cut_off(pair.request(0, text, text)):
            after = pair.cursor(before, wait=20) if committed else before
        assert (after > before) == committed
        assert pair.send(1, text, text) == 303
        if committed:
            assert pair.cursor(after) == after
        assert pair.send(0, text, text + "!") == 422


@contextmanager
def cut_off(request: httpx.Request) -> Iterator[None]:
    """Send the request; at the end of the block reset the connection, the response unread."""
    head = [f"{request.method} {request.url.path} HTTP/1.1", *(": ".join(each) for each in request.headers.items())]
    with socket.create_connection((request.url.host, request.url.port or 80), timeout=DEADLINE) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        wire.sendall("\r\n".join([*head, "", ""]).encode() + request.read())
        yield

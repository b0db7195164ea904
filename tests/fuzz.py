"""``python -m tests.fuzz 10000 [--seed N]``: mutated handshakes, frames and sends from a real session to a real server.

Some connections end regularly, some midway, some by a reset.

See also: ``mutations.py``, which makes the data.
"""

import argparse
import asyncio
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx

from tests import mutations
from tests.asgi_server import RawClient, raw_client
from tests.process_stats import descriptors
from tests.server_process import DEADLINE, Server

AT_ONCE = 16
LONGEST_DRIP = 700  # up to so many bytes are sent one by one; longer data whole
PROBE_EVERY = 200  # sequences
PAUSE = 0.02  # seconds, for an application to respond before its client disconnects
FREED_SECONDS = 5.0  # for resources to be released (I9)

ENVIRON = {"MICROBLOG_TABS_PER_USER": "", "MICROBLOG_TABS_PER_ADDRESS": ""}


class Sequence(NamedTuple):
    """What one connection sends: a request, and frames if it was a valid handshake."""

    request: bytes
    frames: bytes | None
    dripping: bool
    reset: bool


def sequences(seed: int, numbers: range, port: int, cookie: str, token: str = "") -> Iterator[Sequence]:
    """The sequences of those numbers; the same for the same seed, except port, cookie and CSRF token."""
    good = handshake(port, cookie)
    plain = [each for each in good if each[0] not in (b"Connection", b"Upgrade")]
    for number in numbers:
        random = Random(f"{seed} {number}")
        frames = mutations.frames(random) if random.random() < 0.5 else None
        if frames is not None:
            request = _request(good)
        elif random.random() < 0.3:
            request = mutations.send(random, plain, f"csrf_token={token}&nonce=n{number}&message=hello".encode())
        else:
            request = mutations.handshake(random, random.choice([good, plain]))
        yield Sequence(request, frames, random.random() < 0.5, random.random() < 0.2)


def handshake(port: int, cookie: str) -> list[mutations.Header]:
    return [
        (b"Host", b"127.0.0.1:%d" % port),
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Origin", b"http://127.0.0.1:%d" % port),
        (b"Cookie", cookie.encode()),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ]


def _request(headers: list[mutations.Header]) -> bytes:
    return b"GET /notifications HTTP/1.1\r\n" + b"".join(b"%s: %s\r\n" % each for each in headers) + b"\r\n"


class Result:
    """The outcome: statuses and close codes by number, and everything that was wrong."""

    def __init__(self) -> None:
        self.played = self.probes = 0
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []

    def record_close(self, received: bytes) -> None:
        """Record the status of a response."""
        self.answers[received[9:12].decode("latin-1") if received.startswith(b"HTTP/1.1 ") else "nothing"] += 1

    def heard_frames(self, received: bytes) -> None:
        """Record the close code found among some frames; they are short."""
        while received and received[0] != 0x88:
            received = received[2 + received[1] :]
        self.answers[f"close {int.from_bytes(received[2:4], 'big')}" if received else "no close"] += 1


async def fuzz(server: Server, cookie: str, token: str, seed: int, numbers: range) -> Result:
    """Play everything, several at a time, checking the server's health in between."""
    result = Result()
    each = enumerate(sequences(seed, numbers, server.port, cookie, token), numbers.start)
    async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as client, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(_player(each, server.port, client, result))
    return result


async def _player(each: "Iterator[tuple[int, Sequence]]", port: int, client: httpx.AsyncClient, result: Result) -> None:
    for number, sequence in each:
        try:
            async with asyncio.timeout(DEADLINE):
                await _play(port, sequence, result)
        except TimeoutError:
            result.wrong.append(f"sequence {number} did not come to an end")
        result.played += 1
        if number % PROBE_EVERY == 0:
            result.probes += 1
            if (await client.get("/healthz")).status_code != httpx.codes.OK:
                result.wrong.append(f"the server was not well after sequence {number}")


async def _play(port: int, sequence: Sequence, result: Result) -> None:
    async with raw_client(port) as client:
        raw: socket.socket = client.writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sequence.reset:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(ConnectionError):
            if sequence.frames is not None:
                await client.send(sequence.request)
                result.record_close(await client.head())
                await client.frame()
            await _say(client, sequence.request if sequence.frames is None else sequence.frames, sequence.dripping)
            if not sequence.reset:
                await _end(client, sequence, result)


async def _say(client: RawClient, data: bytes, dripping: bool) -> None:
    if not dripping or len(data) > LONGEST_DRIP:
        await client.send(data)
        return
    for number, byte in enumerate(data):
        await client.send(bytes([byte]))
        if number % 8 == 0:
            await asyncio.sleep(0)


async def _end(client: RawClient, sequence: Sequence, result: Result) -> None:
    reading = asyncio.create_task(client.reader.read())
    await asyncio.wait({reading}, timeout=PAUSE)
    with suppress(OSError):
        client.writer.write_eof()
    received = await reading
    if sequence.frames is None:
        result.record_close(received)
    else:
        result.heard_frames(received)


def held_after(server: Server, baseline: int) -> int:
    """The number of descriptors that remain open, after the time to release them."""
    give_up = time.monotonic() + FREED_SECONDS
    while (more := descriptors(server) - baseline) > 0 and time.monotonic() < give_up:
        time.sleep(0.05)
    return more


class Report(NamedTuple):
    """The results of one run."""

    result: Result
    seconds: float
    held: int
    status: int
    logged: str

    def failures(self) -> list[str]:
        """Everything that was wrong."""
        wrong = list(self.result.wrong)
        if self.held > 0:
            wrong.append(f"{self.held} descriptors were not let go of")
        if self.status:
            wrong.append(f"the exit status was {self.status}")
        return [*wrong, self.logged[-3000:]] if self.logged else wrong


def run(folder: Path, count: int, seed: int, environ: dict[str, str]) -> Report:
    """Start a server with the settings ``environ``, play ``count`` sequences against it, and stop it."""
    with Server(folder, environ=ENVIRON | environ) as server:
        bob = server.person("bob")
        # What a server opens only once, it opens now.
        token = bob.token()  # before ``cookie``: it belongs to a cookie that comes with the page
        asyncio.run(fuzz(server, bob.cookie(), token, seed + 1, range(AT_ONCE * 4)))
        before, start = descriptors(server), time.monotonic()
        result = asyncio.run(fuzz(server, bob.cookie(), token, seed, range(count)))
        seconds = time.monotonic() - start
        held = held_after(server, before)
        if bob.client.get("/healthz").status_code != httpx.codes.OK:
            result.wrong.append("the server was not well in the end")
        bob.close()
        return Report(result, seconds, held, server.stop(), server.logged())


def main() -> None:
    """Print counts, durations, statuses and failures; exit status 1 if there are failures."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        report = run(Path(folder), asked.count, asked.seed, {})
    result, failures = report.result, report.failures()
    print(f"{result.played:,} sequences, seed {asked.seed}, in {report.seconds:.1f} s")
    print(", ".join(f"{answer}: {count:,}" for answer, count in sorted(result.answers.items())))
    print(f"tracebacks: {report.logged.count('Traceback')}; descriptors: {report.held:+}; exit status {report.status}")
    print("\n".join(failures) or f"the server answered all {result.probes} times that it was asked for its health")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()

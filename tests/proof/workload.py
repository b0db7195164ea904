"""The load: users send, read, and poll from old cursors, and each gets marks that identify the owner of data.

A message goes to either host, as from a load balancer. After a failure it goes to the other one with the same nonce;
after two, the client waits as long as Retry-After says and repeats both, until the message is acknowledged.
"""

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from urllib.parse import urlencode

from microblog_rt.errors import Unavailable
from microblog_rt.services import Services
from tests.http_connection import ERRORS, Answer, Connection
from tests.proof.host import Host
from tests.proof.ledger import ABANDONED, ACKNOWLEDGED, Attempt, Ledger, Mark, Send
from tests.proof.people import Person
from tests.proof.tabs import MARK, Tab

Work = Coroutine[Any, Any, None]

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PATIENCE = 10.0  # seconds for an answer
ABORT_SHARE = 0.05  # of sends: the client disconnects before the answer, and sends again
LONGEST_PAUSE = 2.0
SHOWN = re.compile(rb'name="from" value="([\d.]+)">\s*<input type="hidden" name="up_to" value="([\d.]+)"')
OLDER = re.compile(rb'rel="next" href="([^"]+)"')
CURSORS_KEPT = 40
STALE = 6.0  # seconds, as for tabs
READING = 2.0  # seconds, at most, between opening a page of messages and marking them as read


class Workload:
    """The load on one world; ``rate`` is the number of messages sent a second."""

    def __init__(
        self, people: Sequence[Person], hosts: Sequence[Host], tabs: Sequence[Tab], ledger: Ledger, services: Services
    ) -> None:
        self.rate = 0.0
        self._people = people
        self._hosts = hosts
        self._ledger = ledger
        self._services = services
        self._tabs_of = {person.id: [tab for tab in tabs if tab.person is person] for person in people}
        self._in_progress: set[asyncio.Task[None]] = set()
        self._running: list[asyncio.Task[None]] = []
        self.cursors: dict[int, list[int]] = {person.id: [0] for person in people[:20]}

    def start(self, rate: float) -> None:
        """Start the load."""
        self.rate = rate
        kinds: list[Callable[[], Work]] = [self._send, self._read, self._look_back, self._mark]
        rates = [rate, max(rate / 10, 0.5), max(rate / 10, 0.5), max(rate / 20, 0.5)]
        self._running = [asyncio.create_task(self._repeat(kind, each)) for kind, each in zip(kinds, rates, strict=True)]

    async def finish(self, seconds: float) -> None:
        """Start nothing new, and wait until every request is finished and every message acknowledged."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running = []
        if self._in_progress:
            _, late = await asyncio.wait(self._in_progress, timeout=seconds)
            for task in late:
                task.cancel()
            self._ledger.wrong += [f"I2: {len(late)} requests were not finished within {seconds} s"] if late else []

    async def probe(self, host: Host) -> bool:
        """Send one message to ``host``, once; whether it was acknowledged."""
        send = self._new()
        await self._attempt(send, host, _nonce())
        if send.acknowledged is None:
            self._start(self._deliver(send))
        return send.acknowledged is not None

    async def poll(self, host: Host, user: int, since: int) -> list[tuple[int, str, object]]:
        """Poll from ``since``; the notifications as (timestamp, name, data)."""
        answer = await self._get(host, user, f"/notifications?since={since / 1_000_000!r}")
        if answer.status != 200:
            raise ConnectionError(f"{answer.status}")
        return [(round(each["timestamp"] * 1_000_000), each["name"], each["data"]) for each in json.loads(answer.body)]

    async def _repeat(self, kind: Callable[[], Work], rate: float) -> None:
        due = time.monotonic()
        while True:
            due = max(due + random.expovariate(rate), time.monotonic() - 1)
            await asyncio.sleep(due - time.monotonic())
            self._start(kind())

    def _start(self, work: Work) -> None:
        task = asyncio.create_task(work)
        self._in_progress.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._in_progress.discard(task)
        if not task.cancelled() and task.exception():
            self._ledger.wrong.append(f"error in the proof itself: {task.exception()!r}")

    def _new(self) -> Send:
        sender, recipient = random.sample(self._people, 2)
        cursor = max((tab.since for tab in self._tabs_of[recipient.id]), default=0)
        send = Send(sender.id, recipient.id, f"{len(self._ledger.sends)}: {sender.name} to {recipient.name}", cursor)
        self._ledger.sends.append(send)
        return send

    async def _send(self) -> None:
        await self._deliver(self._new())

    async def _deliver(self, send: Send) -> None:
        nonce, first = _nonce(), random.randrange(2)
        if random.random() < ABORT_SHARE:
            await self._abort(send, self._hosts[first], nonce)
        while True:
            pauses = []
            for host in (self._hosts[first], self._hosts[1 - first]):
                pauses.append(await self._attempt(send, host, nonce))
                if send.acknowledged is not None:
                    return
            await asyncio.sleep(min(max(pauses), LONGEST_PAUSE) * random.uniform(0.5, 1))

    async def _attempt(self, send: Send, host: Host, nonce: str) -> float:
        """Send once; the pause before the next attempt in seconds."""
        begun, retry_after = self._ledger.now(), None
        try:
            target = f"/send_message/{self._name(send.recipient)}"
            answer = await self._post(host, send.sender, target, self._form(send, nonce))
            outcome, retry_after = str(answer.status), answer.retry_after
        except ConnectionRefusedError:
            outcome = "refused"
        except TimeoutError:
            outcome = "no answer"
        except ERRORS as error:
            outcome = f"cut ({type(error).__name__})"
        send.attempts.append(Attempt(host.name, begun, self._ledger.now(), outcome, retry_after))
        if outcome == ACKNOWLEDGED and send.acknowledged is None:
            self._ledger.acknowledge(send)
        return retry_after or 0.5

    async def _abort(self, send: Send, host: Host, nonce: str) -> None:
        connection, begun = Connection(host.port), self._ledger.now()
        with contextlib.suppress(*ERRORS):
            target, body = f"/send_message/{self._name(send.recipient)}", urlencode(self._form(send, nonce)).encode()
            await connection.send("POST", target, self._headers(host, send.sender) | FORM, body)
            await asyncio.sleep(random.uniform(0, 0.01))
        connection.drop()
        send.attempts.append(Attempt(host.name, begun, self._ledger.now(), ABANDONED))

    async def _read(self) -> None:
        person, host = random.choice([each for each in self._people if each.reads]), random.choice(self._hosts)
        with contextlib.suppress(*ERRORS):
            page = await self._get(host, person.id, "/messages?list=received")
            older = OLDER.search(page.body)
            if older and random.random() < 0.5:
                page = await self._get(host, person.id, older[1].decode())
            found = SHOWN.search(page.body) if page.status == 200 else None
            if found is None:
                return
            await asyncio.sleep(random.uniform(0, READING))
            first, last = (round(float(each) * 1_000_000) for each in found.groups())
            mark = Mark(first, last)
            self._ledger.marks[person.id].append(mark)
            fields = {"csrf_token": person.token, "from": found[1].decode(), "up_to": found[2].decode()}
            answer = await self._post(host, person.id, "/messages/read", fields, "application/json")
            mark.acknowledged = answer.status == 200

    async def _look_back(self) -> None:
        """Poll from an old cursor: the answer must contain everything that a tab has received since.

        A host that answers from memory may lack it for ``STALE`` seconds, if its bus is down and has not noticed yet.
        """
        user = random.choice(list(self.cursors))
        kept = self.cursors[user]
        since, received = random.choice(kept), max((tab.since for tab in self._tabs_of[user]), default=0)
        kept.append(received)
        del kept[1 : len(kept) - CURSORS_KEPT]
        host, until = random.choice(self._hosts), time.monotonic() + STALE
        with contextlib.suppress(*ERRORS):
            while True:
                asked = time.monotonic()
                stamps = [each[0] for each in await self.poll(host, user, since)]
                self._ledger.wrong += unordered(user, since, stamps)
                if max([since, *stamps]) >= received:
                    return
                if asked >= until:
                    break
                await asyncio.sleep(0.2)
            self._ledger.wrong.append(
                f"I3: user {user} had received up to {received}; {STALE} s later a poll from {since} returned {stamps}"
            )

    async def _mark(self) -> None:
        person = random.choice(self._people)
        with contextlib.suppress(Unavailable):
            await self._services.notifications.add_notification(person.id, MARK, {"of": person.id})

    async def _get(self, host: Host, user: int, target: str) -> Answer:
        connection = Connection(host.port)
        try:
            return await connection.request("GET", target, self._headers(host, user), seconds=PATIENCE)
        finally:
            connection.drop()

    async def _post(
        self, host: Host, user: int, target: str, fields: dict[str, str], accept: str = "text/html"
    ) -> Answer:
        connection, body = Connection(host.port), urlencode(fields).encode()
        headers = self._headers(host, user) | FORM | {"Accept": accept}
        try:
            return await connection.request("POST", target, headers, body, seconds=PATIENCE)
        finally:
            connection.drop()

    def _form(self, send: Send, nonce: str) -> dict[str, str]:
        return {"csrf_token": self._person(send.sender).token, "message": send.body, "nonce": nonce}

    def _headers(self, host: Host, user: int) -> dict[str, str]:
        return {"Cookie": self._person(user).cookie, "Origin": host.url}

    def _name(self, user: int) -> str:
        return self._person(user).name

    def _person(self, user: int) -> Person:
        return self._people[user - self._people[0].id]


def unordered(user: int, since: int, stamps: list[int]) -> list[str]:
    """Violations in the order of the answer to a poll from ``since``."""
    if stamps != sorted(stamps) or any(each <= since for each in stamps):
        return [f"I3: user {user} polled from {since} and received {stamps}"]
    return []


def _nonce() -> str:
    return f"{random.getrandbits(64):x}"

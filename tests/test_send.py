"""A send on both databases: the same outcomes, the same rows, and on PostgreSQL in one round trip."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from sqlalchemy import make_url, select, update

from microblog_rt.errors import Invalid, InvalidText, KeyReused, NotFound, TooMany
from microblog_rt.hub import Hub
from microblog_rt.models import Attempt, Base, User
from microblog_rt.protocol import MICROSECONDS, Signal
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import sql_time
from tests.clients import signed_in
from tests.conftest import KEY, PASSWORD, PATIENT

LIMIT = Limit(3, 60)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, send_limit=LIMIT)


async def rows(services: Services) -> dict[str, Any]:
    """Everything that a send writes."""
    found = {}
    async with services.storage.reading() as reading:
        for name in ("mailbox", "message", "notification", "attempt"):
            table = Base.metadata.tables[name]
            result = await reading.execute(select(table).order_by(*table.primary_key.columns))
            found[name] = [dict(row) for row in result.mappings()]
    return found


class Case(NamedTuple):
    """A send, after "hello" under the nonce "n" and "keyed" under the key "k", and what it raises or returns."""

    outcome: Any
    recipient: int | str = "susan"
    body: str = "hello"
    nonce: str = ""
    key: str = ""


CASES = {
    "another": Case(True, body="another", nonce="n"),
    "the same without a nonce": Case(True),
    "by id": Case(True, recipient=1, nonce="other"),
    "by a name in other case": Case(True, recipient="SuSAN", nonce="other"),
    "to oneself": Case(True, recipient="john", nonce="n"),
    "the same nonce": Case(False, nonce="n"),
    "the same nonce by id": Case(False, recipient=1, nonce="n"),
    "the same key": Case(False, body="keyed", key="k"),
    "the same key and a nonce": Case(False, body="keyed", nonce="x", key="k"),
    "the key of another text": Case(KeyReused, key="k"),
    "the key for another recipient": Case(KeyReused, recipient="john", body="keyed", key="k"),
    "an unknown name": Case(NotFound, recipient="nobody"),
    "an unknown id": Case(NotFound, recipient=999),
    "a disabled account": Case(Invalid, recipient="eve"),
    "a disabled account that has it": Case(False, recipient="eve", body="before", key="e"),
    "no text": Case(Invalid, body=" "),
}


@pytest.fixture
async def sent(services: Services, susan: User, john: User) -> Services:
    """susan has two messages of john; eve, whose account is disabled, has one."""
    eve = await services.accounts.register("eve", "correct horse")
    assert await services.messages.send_message(john.id, susan.id, "hello", "n")
    assert await services.messages.send_message(john.id, susan.id, "keyed", "", "k")
    assert await services.messages.send_message(john.id, eve.id, "before", "", "e")
    async with asyncio.timeout(60):
        await services.storage.write(lambda tx: tx.execute(update(Attempt).values(expires=0)))
        await services.storage.write(lambda tx: tx.execute(update(User).where(User.id == eve.id).values(disabled=True)))
    return services


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_outcomes(sent: Services, john: User, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    signals: list[Signal] = []
    monkeypatch.setattr(Hub, "deliver", lambda _, signal: signals.append(signal))
    before, began = await rows(sent), sql_time.now()
    try:
        if isinstance(case.recipient, int):
            outcome: Any = await sent.messages.send_message(john.id, case.recipient, *case[2:])
        else:
            name = await sent.messages.send_to(john.id, case.recipient, *case[2:])
            outcome = name is not None
            assert name in (None, case.recipient.lower())
    except Exception as error:
        outcome = type(error)
    after = await rows(sent)
    assert outcome == case.outcome
    if outcome is not True:
        assert after == before
        assert signals == []
        return
    recipient_id = 2 if case.recipient == "john" else 1
    (was,), (mailbox,) = [
        [each for each in found["mailbox"] if each["user_id"] == recipient_id] for found in (before, after)
    ]
    unread = was["unread_message_count"] + (recipient_id == 1)
    clock = mailbox["clock"]
    assert mailbox == was | {"clock": clock, "clock_before": was["clock"], "unread_message_count": unread}
    assert clock > was["clock"]
    (message,) = [each for each in after["message"] if each not in before["message"]]
    assert began - 5 * MICROSECONDS < message["created"] < sql_time.now() + 5 * MICROSECONDS
    hashed = hashlib.sha256(f"{recipient_id}\0{case.nonce}\0{case.body}".encode()).hexdigest()
    assert message == {
        "id": message["id"],
        "sender_id": john.id,
        "recipient_id": recipient_id,
        "body": case.body,
        "timestamp": clock,
        "created": message["created"],
        "read": recipient_id == john.id,
        "idempotency_key": hashed if case.nonce else None,
    }
    (notification,) = [each for each in after["notification"] if each["user_id"] == recipient_id]
    assert notification == {
        "user_id": recipient_id,
        "name": "unread_message_count",
        "timestamp": clock,
        "payload_json": str(unread),
    }
    (signal,) = signals
    assert (signal.user_id, signal.clock, signal.follows) == (recipient_id, clock, was["clock"])
    assert signal.notification is not None
    assert signal.notification.data == unread
    (attempt,) = [each for each in after["attempt"] if each not in before["attempt"]]
    assert attempt["subject"] == f"send:{john.id}"
    assert abs(attempt["expires"] - sql_time.now() - 60 * MICROSECONDS) < 10 * MICROSECONDS


async def test_key_of_a_program_is_stored_as_before(sent: Services) -> None:
    """An upgrade forgets no key."""
    keys = {each["body"]: each["idempotency_key"] for each in (await rows(sent))["message"]}
    assert keys["keyed"] == hashlib.sha256(b"header\0k").hexdigest()


async def test_send_over_the_limit_changes_nothing(sent: Services, john: User) -> None:
    for _ in range(LIMIT.times):
        assert await sent.messages.send_to(john.id, "susan", "more", "", "")
    before = await rows(sent)
    with pytest.raises(TooMany) as refused:
        await sent.messages.send_to(john.id, "susan", "too much", "x", "")
    assert refused.value.retry_after in range(50, 61)
    assert await rows(sent) == before
    assert not await sent.messages.send_to(john.id, "susan", "hello", "n", "")


async def test_name_with_a_nul_character_is_refused(sent: Services, john: User) -> None:
    with pytest.raises(InvalidText):
        await sent.messages.send_to(john.id, "su\0san", "hello", "", "")


class Wire:
    """Passes bytes on to PostgreSQL, and counts the round trips."""

    def __init__(self, port: int) -> None:
        self.round_trips = 0
        self._to = port
        self._asking = False

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._pipes: list[asyncio.Task[None]] = []
        yield server.sockets[0].getsockname()[1]
        server.close()
        await asyncio.gather(*self._pipes)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._to)
        for source, target, asking in ((reader, to_server, True), (from_server, writer, False)):
            self._pipes.append(asyncio.create_task(self._pipe(source, target, asking)))

    async def _pipe(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, asking: bool) -> None:
        while data := await source.read(65536):
            self.round_trips += asking and not self._asking
            self._asking = asking
            target.write(data)
        target.close()


@pytest.mark.parametrize("in_session", [False, True])
async def test_send_on_postgresql_is_one_round_trip(postgresql_emptied: str, in_session: bool) -> None:
    url = make_url(postgresql_emptied)
    assert url.port is not None
    wire = Wire(url.port)
    async with wire.listening() as port:
        here = url.set(port=port).render_as_string(hide_password=False)
        services = assemble(Settings(database_url=here, secret_key=KEY, send_limit=Limit(50, 60)), PATIENT)
        john, _ = [await services.accounts.register(name, PASSWORD) for name in ("john", "susan")]
        session = services.sessions.use(await signed_in(services, john), True)
        counts = []
        for number in range(10):
            before = wire.round_trips
            message = john.id, "susan", f"no. {number}", "n"
            assert await (
                services.messages.attempt(*message, session) if in_session else services.messages.send_to(*message, "")
            )
            counts.append(wire.round_trips - before)
        assert counts[1:] == [1] * 9  # the first connects and prepares
        await services.close()

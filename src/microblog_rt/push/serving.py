"""What a connection waits for while it serves a request: a task, a stream, or the server of pages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

from microblog_rt.accounts import Reader
from microblog_rt.errors import SubjectUnknown
from microblog_rt.push.request import Head
from microblog_rt.web.admission import Query, Scope
from microblog_rt.web.direct import Direct
from microblog_rt.web.notifications import counted

if TYPE_CHECKING:
    from microblog_rt.push.connection import Connection
    from microblog_rt.push.edge import Edge


class Served(Protocol):
    """What a connection waits for before it reads the next request."""

    def abandon(self) -> None:
        """The client disconnected."""

    def check_deadline(self, now: float) -> None:
        """Called about ten times a second."""


class Pages(Protocol):
    """The server of pages, while it has the connection."""

    @property
    def incomplete(self) -> bool:
        """Whether the client has not sent a whole request, or only a part of the next."""

    @property
    def idle(self) -> bool:
        """Whether it is kept for a next request."""

    def abort(self) -> None:
        """Close the connection at once."""


class Admitted(NamedTuple):
    """A request that was admitted, and whose head it was."""

    text: bytes
    head: Head
    reader: Reader
    query: Query


class Answering:
    """A request that a task answers."""

    _task: asyncio.Task[None]

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def abandon(self) -> None:
        """The client disconnected; a change that has begun is completed."""
        self._task.cancel()

    def check_deadline(self, now: float) -> None:
        """Nothing to do: the database has time-outs of its own."""


class Post(Answering):
    """A request with a body; ``received`` is all of it, and the body begins at ``body``."""

    def __init__(self, connection: Connection, direct: Direct, scope: Scope, received: bytes, body: int) -> None:
        super().__init__(connection)
        self._received = received
        self._task = asyncio.get_running_loop().create_task(self._answer(direct, scope, received[body:]))

    async def _answer(self, direct: Direct, scope: Scope, body: bytes) -> None:
        try:
            answer = await direct.answer(scope, body)
        except Exception as error:
            self._connection.refuse(error)
            return
        if answer is None:
            self._connection.pass_on(self._received)
        else:
            self._connection.respond(answer)


class PollRead(Answering):
    """A poll that must read."""

    def __init__(self, connection: Connection, edge: Edge, reader: Reader, query: Query) -> None:
        super().__init__(connection)
        self._task = asyncio.get_running_loop().create_task(self._read(edge, reader, query))

    async def _read(self, edge: Edge, reader: Reader, query: Query) -> None:
        try:
            found = await edge.feed.page(reader, query.since, query.names)
        except Exception as error:
            self._connection.refuse(error)
        else:
            self._connection.respond_with(counted("poll", found), polled=query.wait is None)


class AccountLookup(Answering):
    """A request of a user of another site whose account this process does not know; served once there is one."""

    def __init__(self, connection: Connection, edge: Edge, unknown: SubjectUnknown, text: bytes, head: Head) -> None:
        super().__init__(connection)
        self._task = asyncio.get_running_loop().create_task(self._look_up(edge, unknown, text, head))

    async def _look_up(self, edge: Edge, unknown: SubjectUnknown, text: bytes, head: Head) -> None:
        try:
            await edge.admission.ensure_account(unknown)
        except Exception as error:
            self._connection.refuse(error)
        else:
            self._connection.serve(text, head)

"""Clients of the feed, without a network, and a way to lose their signals."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import pytest

from microblog_rt.accounts import Reader, token_hash
from microblog_rt.errors import Refused
from microblog_rt.hub import Hub, Subscriber
from microblog_rt.models import User
from microblog_rt.protocol import Notification
from microblog_rt.services import Services

DEADLINE = 30.0  # seconds; after this long a test fails


async def signed_in(services: Services, user: User) -> Reader:
    """Start a session of that user; its reader."""
    token = await services.sessions.start_session(user, remembered=True)
    return Reader(user.id, token_hash(token))


async def send(services: Services, to: User, text: str = "hello") -> None:
    """Send from an account of its own, which is created if missing: a message to oneself is read already."""
    sender = await services.accounts.find("sender") or await services.accounts.register("sender", "a long password")
    await services.messages.send_message(sender.id, to.id, text)


@contextmanager
def signals_lost() -> Iterator[None]:
    """Drop the signals that are sent inside the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hub, "deliver", lambda *_, **__: None)
        yield


@contextmanager
def subscribed(hub: Hub, user_id: int) -> Iterator[Subscriber]:
    """A subscriber of the hub, which does nothing by itself."""
    subscriber = Subscriber(user_id)
    hub.add(subscriber)
    try:
        yield subscriber
    finally:
        hub.remove(subscriber)


class Client:
    """Keeps the state and the cursor, as a tab does. ``connect`` streams into it, ``poll`` reads once."""

    def __init__(self, services: Services, reader: Reader, since: int = 0) -> None:
        self.services = services
        self.reader = reader
        self.since = since
        self.state: dict[str, Any] = {}
        self.pages: list[list[Notification]] = []
        self.refusal: Refused | None = None
        self._changed = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    def apply(self, notifications: list[Notification]) -> None:
        for each in notifications:
            assert each.timestamp > self.since, "a notification at or behind the cursor"
            self.state[each.name] = each.data
            self.since = each.timestamp
        self.pages.append(notifications)
        self._changed.set()

    async def poll(self) -> None:
        self.apply(await self.services.feed.page(self.reader, self.since))

    async def connect(self, heartbeat: float = 3600) -> None:
        """Follow from the cursor on; returns after the first page."""
        self._following = asyncio.create_task(self._follow(heartbeat))
        pages = len(self.pages)
        await self.until(lambda: len(self.pages) > pages)

    async def disconnect(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            self._following = None

    async def until(self, condition: Any) -> None:
        """Wait until ``condition()`` is true; raises the refusal that ended the stream."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                if self.refusal:
                    raise self.refusal
                self._changed.clear()
                await self._changed.wait()

    async def refused(self) -> Refused:
        """Wait for the stream to end; its refusal."""
        async with asyncio.timeout(DEADLINE):
            while self.refusal is None:
                self._changed.clear()
                await self._changed.wait()
        return self.refusal

    async def _follow(self, heartbeat: float) -> None:
        pages = self.services.feed.follow(self.reader, self.since, heartbeat=heartbeat)
        try:
            async with aclosing(pages):
                async for notifications in pages:
                    self.apply(notifications)
        except Refused as error:
            self.refusal = error
            self._changed.set()

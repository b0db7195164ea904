"""Webhooks: a notification that no client of its user has received in time is POSTed to a receiver, at least once.

    receiver.py   the signed POST, only to addresses that are allowed

A client confirms a notification with its cursor. One task stores how far the clients of this process have confirmed,
another one POSTs what no client has confirmed. A send does nothing for either. See also: ``storage/webhooks.py``.
"""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice

from microblog_rt import metrics, protocol
from microblog_rt.errors import Unavailable
from microblog_rt.hub import Hub
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage, Transaction, webhooks
from microblog_rt.storage.webhooks import Claim
from microblog_rt.timeouts import Timeouts
from microblog_rt.webhooks.receiver import Failed, Receiver

log = logging.getLogger(__name__)

POSTS_AT_ONCE = 8
USERS_AT_ONCE = 64
STORED_AT_ONCE = 500  # in one transaction, during which other writers wait on SQLite


class Webhooks:
    """The webhooks of one process. ``ahead()``: seconds added to the clock, in tests."""

    def __init__(
        self,
        storage: Storage,
        hub: Hub,
        receiver: Receiver,
        settings: Settings,
        timeouts: Timeouts = Timeouts(),
        ahead: Callable[[], float] = float,
    ) -> None:
        self._storage = storage
        self._hub = hub
        self._hub.remember_left({})
        self._receiver = receiver
        self._after = _microseconds(settings.webhook_after)
        self._every = min(timeouts.webhook_check, settings.webhook_after / 10)
        self._timeouts = timeouts
        self._clock_ahead = ahead
        self._stored: dict[int, int] = {}  # of the users with a subscriber, how far they have received
        self._failing = False

    async def run(self) -> None:
        """Run both tasks, forever."""
        async with self._receiver, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self.note_confirmed))
            tasks.create_task(self._repeat(self.post_due))

    async def note_confirmed(self) -> None:
        """Store how far the clients of this process have confirmed, of those who have since the last time."""
        confirmed = self._hub.confirmed()
        new = {user_id: cursor for user_id, cursor in confirmed.items() if cursor > self._stored.get(user_id, 0)}
        pending = iter(new.items())
        while some := dict(islice(pending, STORED_AT_ONCE)):
            await self._storage.write(partial(_note_confirmed, some))
        self._stored = confirmed
        self._hub.remember_left(confirmed)

    async def post_due(self) -> None:
        """POST what is due, in one process at a time: the one that takes the turn of this interval first."""
        began = await self._storage.write(lambda tx: webhooks.turn(tx, _microseconds(self._every), self._ahead()))
        if began is None:
            return
        await self._notice(began)
        free = asyncio.Semaphore(POSTS_AT_ONCE)

        async def post(user_id: int) -> bool:
            """Whether the user is not due any more, or another process POSTs."""
            async with free:
                try:
                    await self._post(user_id)
                    return True
                except Unavailable:
                    pass  # storage has logged it; the POST is repeated
                except Exception:
                    log.exception("webhook for user %d failed", user_id)
                return False

        more = True
        while more:
            async with self._storage.reading() as reading:
                users = await webhooks.due(reading, self._after, self._ahead(), USERS_AT_ONCE)
            done = await asyncio.gather(*map(post, users))
            more = len(users) == USERS_AT_ONCE and all(done)  # others are tried again after the interval

    async def _notice(self, began: int) -> None:
        """Store since when users were not told, before newer notifications replace the oldest."""
        more = True
        while more:
            async with self._storage.reading() as reading:
                untold = await webhooks.unnoticed(reading, began, STORED_AT_ONCE)
            if untold:
                await self._storage.write(partial(_notice, untold, began))
            more = len(untold) == STORED_AT_ONCE

    async def _post(self, user_id: int) -> None:
        lease = _microseconds(self._timeouts.webhook_lease)
        claim = await self._storage.write(lambda tx: webhooks.claim(tx, user_id, self._after, lease, self._ahead()))
        if claim is None:
            return
        try:
            await self._receiver.post(_body(claim))
        except Failed as error:
            await self._failed(claim, error)
        else:
            await self._settle(claim, "delivered")
            if self._failing:
                log.info("webhook receiver accepts notifications again")
            self._failing = False

    async def _failed(self, claim: Claim, error: Failed) -> None:
        metrics.WEBHOOKS["failed"].count()
        if not self._failing:
            log.warning("webhook failed, will be retried: %s", error)
        self._failing = True
        if claim.failing >= _microseconds(self._timeouts.webhook_give_up):
            hours = self._timeouts.webhook_give_up / 3600
            log.error("webhook for user %d given up after %.0f h: %s", claim.user_id, hours, error)
            await self._settle(claim, "given_up")
            return
        doubled = self._timeouts.webhook_retry_min * 2 ** min(claim.attempts - 1, 30)
        pause = min(doubled, self._timeouts.webhook_retry_max) * random.uniform(0.5, 1)  # noqa: S311
        ahead = self._ahead()
        await self._storage.write(
            lambda tx: webhooks.postpone(tx, claim.user_id, claim.leased, _microseconds(pause), ahead)
        )

    async def _settle(self, claim: Claim, outcome: str) -> None:
        told = claim.notifications[-1].timestamp
        await self._storage.write(lambda tx: webhooks.settle(tx, claim.user_id, claim.leased, told))
        metrics.WEBHOOKS[outcome].count()

    def _ahead(self) -> int:
        return _microseconds(self._clock_ahead())

    async def _repeat(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await work()
            except Unavailable:
                pass  # storage has logged it
            except Exception:
                log.exception("webhooks failed")


def _note_confirmed(confirmed: dict[int, int], tx: Transaction) -> None:
    webhooks.note_confirmed(tx, confirmed)


def _notice(untold: dict[int, int], began: int, tx: Transaction) -> None:
    webhooks.notice(tx, untold, began)


def _body(claim: Claim) -> bytes:
    return f'{{"user": {json.dumps(claim.username)}, "notifications": {protocol.frame(claim.notifications)}}}'.encode()


def _microseconds(seconds: float) -> int:
    return round(seconds * MICROSECONDS)

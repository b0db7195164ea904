"""Telling users: ``add_notification`` keeps one row per user and name; ``stage`` before the commit and ``tell`` after
it signal whoever listens.

Not here: who reads what was told (``feed.py``).
"""

import json
from typing import Any

from microblog_rt.bus import Bus
from microblog_rt.errors import BadRequest
from microblog_rt.hub import Hub
from microblog_rt.models import NOTIFICATION_NAME_LENGTH
from microblog_rt.protocol import Notification, Signal
from microblog_rt.storage import Storage, Transaction, clock
from microblog_rt.storage import notifications as rows
from microblog_rt.storage.clock import Tick


class Notifications:
    """The one way to tell a user something."""

    def __init__(self, storage: Storage, hub: Hub, bus: Bus) -> None:
        self._storage = storage
        self._hub = hub
        self._bus = bus

    async def add_notification(self, user_id: int, name: str, data: Any) -> Notification:
        """Tell ``user_id`` that ``name`` now stands at ``data`` (anything JSON can say); the older is replaced.

        Raises NotFound for a user there is none of, BadRequest for a name or data that cannot be kept.
        """
        return await self._storage.finish(self._add(user_id, name, _payload(name, data)))

    async def _add(self, user_id: int, name: str, payload: str) -> Notification:
        async with self._storage.transaction() as tx:
            tick = await clock.tick(tx, user_id)
            notification = await replace(tx, user_id, name, payload, tick.clock)
            signal = follow_up(user_id, tick, notification)
            await self.stage(tx, signal)
        await self.tell(signal)
        return notification

    async def stage(self, tx: Transaction, signal: Signal) -> None:
        """Have the other processes told at the commit of ``tx``, where the bus can; the last word in it."""
        await self._bus.stage(tx, signal)

    async def tell(self, signal: Signal) -> None:
        """Signal this process's subscribers, then the other processes. Only ever after the commit."""
        self._hub.deliver(signal)
        await self._bus.publish(signal)


async def replace(tx: Transaction, user_id: int, name: str, payload_json: str, timestamp: int) -> Notification:
    """Make this the one notification of that user and name, stamped with the tick of this transaction."""
    notification = Notification(name, payload_json, timestamp)
    await rows.replace(tx, user_id, notification)
    return notification


def follow_up(user_id: int, tick: Tick, notification: Notification) -> Signal:
    """The signal-up for a transaction that ticked once and told one thing."""
    return Signal(user_id, tick.clock, tick.before, notification)


def _payload(name: str, data: Any) -> str:
    if not 1 <= len(name) <= NOTIFICATION_NAME_LENGTH:
        raise BadRequest(f"A notification's name has 1 to {NOTIFICATION_NAME_LENGTH} characters.")
    try:
        return json.dumps(data, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"A notification's data must be JSON: {error}") from None

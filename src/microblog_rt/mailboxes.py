"""One unit of change: every write that alters what a user sees goes through ``Mailboxes.change``.

See also: ``storage/mailboxes.py``, the statements behind it.
"""

import json
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from microblog_rt import metrics
from microblog_rt.bus import Bus
from microblog_rt.errors import BadRequest
from microblog_rt.hub import Hub
from microblog_rt.models import NOTIFICATION_NAME_LENGTH
from microblog_rt.protocol import MICROSECONDS, Notification, Signal
from microblog_rt.storage import Storage, Transaction, idempotency, mailboxes, notifications
from microblog_rt.storage.counters import UNREAD_MESSAGES, Counter
from microblog_rt.storage.idempotency import Write
from microblog_rt.storage.send import Outgoing, Sent, send

log = logging.getLogger(__name__)

T = TypeVar("T")


class Change:
    """What one transaction changes in some mailboxes. Each tick stamps one thing, so no two share a timestamp."""

    def __init__(self, tx: Transaction, user_ids: Collection[int], ahead: int = 0) -> None:
        self._tx = tx
        self._user_ids = sorted(set(user_ids))
        self._ahead = ahead
        self._locked = False
        self.signals: list[Signal] = []
        if len(self._user_ids) > 1:
            self._lock()

    @property
    def tx(self) -> Transaction:
        """The transaction. Every mailbox of the change is locked first: what is read then is current."""
        if not self._locked:
            self._lock()
        return self._tx

    def tick(self, user_id: int) -> int:
        """Move the user's clock on, so that subscribers read again and sessions are checked.

        Return the new clock reading. Raises NotFound.
        """
        tick = self._tick(user_id, mailboxes.tick)
        self.signals.append(Signal(user_id, tick.clock))
        return tick.clock

    def set(self, user_id: int, name: str, data: Any) -> Notification:
        """Replace the user's notification ``name``; ``data`` is any JSON value. Raises NotFound, BadRequest."""
        payload = _payload(name, data)
        return self._notify(user_id, name, payload, self._tick(user_id, mailboxes.tick))

    def count(self, user_id: int, counter: Counter, delta: int) -> Notification:
        """Add ``delta`` to a counter and notify of its new value. Raises NotFound."""
        return self._counted(user_id, counter, self._tick(user_id, mailboxes.count, counter, delta))

    def count_each(self, counter: Counter, delta: Any) -> None:
        """Add ``delta``, an expression of a mailbox, to the counter of every mailbox of the change.

        Those whose counter changes are notified: for many users this takes few statements.
        """
        self._lock()
        ticks = mailboxes.count_each(self._tx, self._user_ids, counter, delta, self._ahead) if self._user_ids else {}
        if ticks:
            notifications.replace_each(self._tx, list(ticks), counter)
        for user_id, tick in ticks.items():
            self._signal(user_id, counter.name, str(tick.value), tick)

    def recount(self, user_id: int, counter: Counter) -> Notification:
        """Count anew what the counter counts, and notify of it. Raises NotFound."""
        self._lock()
        return self._counted(user_id, counter, self._tick(user_id, mailboxes.recount, counter))

    def mark_read(self, user_id: int, counter: Counter, first: int, last: int) -> Notification | None:
        """Mark what has the clock readings ``first`` to ``last`` as read; None if nothing of it was unread."""
        self._lock()
        tick = self._tick(user_id, mailboxes.mark_read, counter, first, last)
        return self._counted(user_id, counter, tick) if tick else None

    def delete_items(self, counter: Counter, item_ids: Sequence[int]) -> None:
        """Delete received items from the mailboxes of the change, and count down those that were unread."""
        for user_id, unread in mailboxes.delete_items(self.tx, counter, item_ids).items():
            self.count(user_id, counter, -unread)

    def move_mark(self, user_id: int, counter: Counter, delta: int, mark: int) -> Notification:
        """Add ``delta`` to a counter, set its mark to the clock reading ``mark``, and notify. Raises NotFound."""
        self._lock()
        return self._counted(user_id, counter, self._tick(user_id, mailboxes.move_mark, counter, delta, mark))

    def once(self, write: Write | None, work: Callable[[], list[Notification]]) -> list[Notification]:
        """The result of ``work``; if this ``write`` was done before, its first result, and nothing is changed.

        Raises KeyReused.
        """
        return work() if write is None else idempotency.once(self.tx, write, work)

    def restamp(self, user_id: int) -> None:
        """Stamp every notification of the user anew, in the order they have. Raises NotFound."""
        for name in notifications.names(self.tx, user_id):
            notifications.stamp(self._tx, user_id, name, self.tick(user_id))

    def _lock(self) -> None:
        if not self._locked:
            mailboxes.lock(self._tx, self._user_ids)
            self._locked = True

    def _counted(self, user_id: int, counter: Counter, tick: mailboxes.Tick) -> Notification:
        return self._notify(user_id, counter.name, str(tick.value), tick)

    def _notify(self, user_id: int, name: str, payload_json: str, tick: mailboxes.Tick) -> Notification:
        notification = self._signal(user_id, name, payload_json, tick)
        notifications.replace(self._tx, user_id, notification)
        return notification

    def _signal(self, user_id: int, name: str, payload_json: str, tick: mailboxes.Tick) -> Notification:
        notification = Notification(name, payload_json, tick.clock)
        self.signals.append(Signal(user_id, tick.clock, tick.before, notification))
        return notification

    def _tick(self, user_id: int, statement: Callable[..., T], *args: Any) -> T:
        if user_id not in self._user_ids:
            raise ValueError(f"user {user_id} is not part of this change")
        tick = statement(self._tx, user_id, *args, ahead=self._ahead)
        self._locked = self._locked or len(self._user_ids) == 1  # the tick itself locks the row
        return tick


class Mailboxes:
    """Changes mailboxes and signals what changed."""

    def __init__(self, storage: Storage, hub: Hub, bus: Bus) -> None:
        self._storage = storage
        self._hub = hub
        self._bus = bus

    async def change(self, user_ids: int | Collection[int], work: Callable[[Change], T], *, ahead: float = 0) -> T:
        """Run ``work`` in one transaction and return its result after the commit.

        Mailboxes are locked in id order. After the commit, signals are delivered to the subscribers of this process and
        published to the others. An exception of ``work`` rolls everything back. Completes even if the caller is
        cancelled. ``ahead``: seconds added to the clock. Raises Unavailable.
        """
        users = [user_ids] if isinstance(user_ids, int) else user_ids
        changes: list[Change] = []

        def run(tx: Transaction) -> T:
            change = Change(tx, users, round(ahead * MICROSECONDS))
            result = work(change)
            changes.append(change)
            return result

        return await self._storage.write(run, lambda: self._committed(changes[0]))

    async def send(self, outgoing: Outgoing) -> Sent:
        """Send a message as ``change`` does everything else; it is written for speed (``storage/send.py``).

        Raises what ``storage.send`` raises, Unavailable.
        """
        committed: list[Sent] = []

        def run(tx: Transaction) -> Sent:
            sent = send(tx, outgoing)
            committed.append(sent)
            return sent

        def signal() -> None:
            recipient_id, _, tick = committed[-1]
            notification = Notification(UNREAD_MESSAGES.name, str(tick.value), tick.clock)
            self._signal(Signal(recipient_id, tick.clock, tick.before, notification))
            metrics.SENDS.count()

        return await self._storage.write(run, signal, in_one_statement=True)

    def _signal(self, signal: Signal) -> None:
        self._hub.deliver(signal)
        try:
            self._bus.publish(signal)
        except Exception:  # what is committed has been done
            log.exception("publishing failed; the sweep will find what was not signalled")

    def _committed(self, change: Change) -> None:
        for signal in change.signals:
            self._signal(signal)


def _payload(name: str, data: Any) -> str:
    if not 1 <= len(name) <= NOTIFICATION_NAME_LENGTH:
        raise BadRequest("notification_name_length", limit=NOTIFICATION_NAME_LENGTH)
    try:
        return json.dumps(data, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadRequest("notification_data_not_json", error=str(error)) from None

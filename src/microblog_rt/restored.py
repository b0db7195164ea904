"""After a backup was restored: every notification is stamped anew, later than any cursor that a client may hold.

Clients hold cursors from after the backup, so its notifications would reach none of them. Users are processed in id
order, and processing one twice does no harm: an interrupted run starts again. Servers may run meanwhile.
"""

from collections.abc import AsyncIterator, Sequence
from functools import partial

from microblog_rt.mailboxes import Change, Mailboxes
from microblog_rt.storage import Storage, mailboxes
from microblog_rt.storage.counters import COUNTERS

USERS_AT_ONCE = 100  # in one transaction, during which other writers wait on SQLite


async def restored(storage: Storage, changes: Mailboxes, ahead: float) -> int:
    """Stamp everything ``ahead`` seconds from now or later, recount every counter, and return the number of users.

    ``ahead``: how far the clock that stamped a client's cursor may have been ahead of this one.
    """
    users = 0
    async for user_ids in _users(storage):
        await changes.change(user_ids, partial(_restamp_all, user_ids), ahead=ahead)
        users += len(user_ids)
    return users


async def _users(storage: Storage) -> AsyncIterator[Sequence[int]]:
    after = 0
    while True:
        async with storage.reading() as reading:
            user_ids = await mailboxes.next_users(reading, after, USERS_AT_ONCE)
        if not user_ids:
            return
        yield user_ids
        after = user_ids[-1]


def _restamp_all(user_ids: Sequence[int], change: Change) -> None:
    for user_id in user_ids:
        change.restamp(user_id)
        for counter in COUNTERS:  # also where the backup has no notification: a client may hold a count
            change.recount(user_id, counter)

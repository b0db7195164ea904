"""After a backup was restored: every mailbox ticks, and everything it tells is stamped anew.

Clients hold cursors from after the backup. What the backup holds is older than those, and would be told to nobody; so
it is stamped newer than any of them can be. Each user is a transaction's worth of work, done in id order, and doing it
twice does no harm: whoever is interrupted begins again. Servers may run meanwhile, and learn of it by their sweep.
Not here: bringing the backup back.
"""

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import bindparam, select, type_coerce, update
from sqlalchemy.types import BigInteger

from microblog_rt import models
from microblog_rt.models import Mailbox
from microblog_rt.protocol import MICROSECONDS, UNREAD_MESSAGE_COUNT, Notification
from microblog_rt.storage import Storage, Transaction
from microblog_rt.storage import messages as marks
from microblog_rt.storage import notifications as told
from microblog_rt.storage.clock import OF_USER
from microblog_rt.storage.sql_time import NOW_AT_LAST, Later

AT_ONCE = 100  # users; for so long other writers wait on SQLite

NEXT = (
    select(Mailbox.user_id)
    .where(Mailbox.user_id > bindparam("after", type_=BigInteger))
    .order_by(Mailbox.user_id)
    .limit(AT_ONCE)
)
AHEAD = bindparam("ahead", type_=BigInteger)
TICK_AHEAD = OF_USER.values(clock_before=Mailbox.clock, clock=Later(Mailbox.clock + 1, NOW_AT_LAST + AHEAD)).returning(
    Mailbox.clock
)
NAMES = (
    select(models.Notification.name)
    .where(models.Notification.user_id == bindparam("of_user"))
    .order_by(type_coerce(models.Notification.timestamp, BigInteger))
)
STAMP = (
    update(models.Notification)
    .where(models.Notification.user_id == bindparam("of_user"), models.Notification.name == bindparam("called"))
    .values(timestamp=bindparam("stamp", type_=BigInteger))
)


async def restored(storage: Storage, ahead: float) -> int:
    """Tell everybody everything again, stamped ``ahead`` seconds from now or later; how many users there are.

    ``ahead``: how far a clock that stamped a cursor may have been ahead of this one.
    """
    users = 0
    async for some in _users(storage):
        async with storage.transaction() as tx:
            for user_id in some:
                await _tell_again(tx, user_id, round(ahead * MICROSECONDS))
        users += len(some)
    return users


async def _users(storage: Storage) -> AsyncIterator[Sequence[int]]:
    after = 0
    while True:
        async with storage.reading() as reading:
            some = (await reading.execute(NEXT, {"after": after})).scalars().all()
        if not some:
            return
        yield some
        after = some[-1]


async def _tell_again(tx: Transaction, user_id: int, ahead: int) -> None:
    stamp = await _tick(tx, user_id, ahead)
    count = await marks.recount(tx, user_id)
    names = (await tx.execute(NAMES, {"of_user": user_id})).scalars()
    # The count is told also where the backup has none: a client may hold one.
    for number, name in enumerate(dict.fromkeys([*names, UNREAD_MESSAGE_COUNT])):
        if number:
            stamp = await _tick(tx, user_id, ahead)
        if name == UNREAD_MESSAGE_COUNT:
            await told.replace(tx, user_id, Notification(name, str(count), stamp))
        else:
            await tx.execute(STAMP, {"of_user": user_id, "called": name, "stamp": stamp})


async def _tick(tx: Transaction, user_id: int, ahead: int) -> int:
    return (await tx.execute(TICK_AHEAD, {"of_user": user_id, "ahead": ahead})).scalar_one()

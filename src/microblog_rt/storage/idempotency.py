"""Writes under an ``Idempotency-Key``: each is done once, and a repetition gets the first result.

The key is stored in the transaction of the write itself. On PostgreSQL an insert waits for a transaction that writes
the same key; the next statement sees its outcome.
"""

import json
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, delete, select, update
from sqlalchemy.dialects.postgresql import insert  # rendered for SQLite too

from microblog_rt.errors import KeyReused, Unavailable
from microblog_rt.models import IdempotentWrite
from microblog_rt.protocol import MICROSECONDS, Notification
from microblog_rt.storage import Transaction
from microblog_rt.storage.sql_time import NOW

KEPT = 86_400 * MICROSECONDS
AT_ONCE = 5_000  # rows to delete in one transaction, during which other writers wait on SQLite


class Write(NamedTuple):
    """A write of a user: the hashes of its key, and of the operation with its body."""

    user_id: int
    key: str
    request: str


def once(tx: Transaction, write: Write, work: Callable[[], list[Notification]]) -> list[Notification]:
    """The result of ``work``, which is not called if the write was done before. Raises KeyReused for another write."""
    stored = _begin(tx, write)
    if stored is not None:
        return [Notification(*each) for each in json.loads(stored)]
    result = work()
    text = json.dumps([(each.name, each.payload_json, each.timestamp) for each in result])
    tx.execute(update(IdempotentWrite).where(_this(write)).values(result_json=text))
    return result


def claim(tx: Transaction, write: Write) -> None:
    """Store the key of a write that consists of several. Raises KeyReused if it is that of another write."""
    _begin(tx, write)


def forget(tx: Transaction) -> bool:
    """Delete some keys that are older than a day; whether there may be more."""
    key = IdempotentWrite.key
    some = select(key).where(IdempotentWrite.expires <= NOW).limit(AT_ONCE)
    return tx.execute(delete(IdempotentWrite).where(IdempotentWrite.expires <= NOW, key.in_(some))).rowcount >= AT_ONCE


def _begin(tx: Transaction, write: Write) -> str | None:
    """Store the key; the stored result if there was one already."""
    row = insert(IdempotentWrite).values(**write._asdict(), result_json="[]", expires=NOW + KEPT)
    row = row.on_conflict_do_nothing(index_elements=["user_id", "key"])
    if tx.execute(row.returning(IdempotentWrite.key)).one_or_none() is not None:
        return None
    columns = select(IdempotentWrite.request, IdempotentWrite.result_json)
    found = tx.execute(columns.where(_this(write))).one_or_none()
    if found is None:
        raise Unavailable  # it was forgotten at this moment
    if found.request != write.request:
        raise KeyReused
    text: str = found.result_json
    return text


def _this(write: Write) -> ColumnElement[bool]:
    return and_(IdempotentWrite.user_id == write.user_id, IdempotentWrite.key == write.key)

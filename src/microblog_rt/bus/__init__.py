"""Carries signals between processes.

    base.py           the contract of a bus, and its events
    memory.py         ``memory://``
    redis.py          ``redis://``, ``rediss://``
    postgresql.py     ``postgresql://``
    sqlite.py         ``sqlite://``
    subscriptions.py  the users whose channels a process subscribes to
    heartbeat.py      detects a connection on which nothing arrives
    outage.py         logs an unavailable broker and paces the attempts to reconnect
    publish_queue.py  signals that wait to be published
    wire.py           a signal as bytes

See also: ``hub.py``, the subscribers of this process.
"""

from importlib.util import find_spec

from microblog_rt.bus.base import Bus, BusEvent, Changed, Gap
from microblog_rt.bus.memory import MemoryBus
from microblog_rt.errors import Misconfigured
from microblog_rt.timeouts import Timeouts

__all__ = ["Bus", "BusEvent", "Changed", "Gap", "MemoryBus", "connect"]


def connect(url: str, database_url: str = "", timeouts: Timeouts = Timeouts()) -> Bus:
    """Return the bus for ``url``, not yet connected; raise Misconfigured if ``url`` is invalid or a package missing.

    ``database_url`` is an SQLAlchemy URL; the buses inside the database connect to it.
    """
    match url.partition(":")[0]:
        case "memory":
            return MemoryBus(timeouts)
        case "sqlite":
            from microblog_rt.bus.sqlite import SqliteBus

            return SqliteBus(database_url, timeouts)
        case "postgresql":
            _require("asyncpg", "postgresql://", "postgres")
            from microblog_rt.bus.postgresql import PostgresqlBus

            return PostgresqlBus(url, database_url, timeouts)
        case _:
            _require("redis", "redis://", "redis")
            from microblog_rt.bus.redis import RedisBus

            return RedisBus(url, timeouts)


def _require(package: str, scheme: str, extra: str) -> None:
    if find_spec(package) is None:
        raise Misconfigured(f"MICROBLOG_BUS_URL: {scheme} requires {package}; pip install 'microblog-rt[{extra}]'")

"""BusEvent to and from the other processes.

    base.py           the contract
    memory.py         ``memory://``
    redis.py          ``redis://``, ``rediss://``
    postgresql.py     ``postgresql://``
    sqlite.py         ``sqlite://``
    subscriptions.py  whom a process wants word of
    heartbeat.py          whether a process hears itself
    alongside.py      work that a listening has done beside it
    wire.py           a signal-up as text
    publish_queue.py         what is to be told, so that no sender waits for it
    outage.py         a broker that is away: said once, and waited for

Not here: the subscribers of this process (``hub.py``), and what they read (``feed.py``).
"""

from importlib.util import find_spec

from microblog_rt.bus.base import Bus, BusEvent, Changed, Gap
from microblog_rt.bus.memory import MemoryBus
from microblog_rt.errors import Misconfigured

__all__ = ["Bus", "BusEvent", "Changed", "Gap", "MemoryBus", "connect"]


def connect(url: str, database_url: str = "") -> Bus:
    """The bus that ``url`` names, not yet connected; raises Misconfigured where that one cannot be had.

    ``database_url``, as SQLAlchemy takes it, is for the buses that are in the database.
    """
    match url.partition(":")[0]:
        case "memory":
            return MemoryBus()
        case "sqlite":
            from microblog_rt.bus.sqlite import SqliteBus

            return SqliteBus(database_url)
        case "postgresql":
            _want("asyncpg", "postgresql://", "postgres")
            from microblog_rt.bus.postgresql import PostgresqlBus

            return PostgresqlBus(url, database_url)
        case _:
            _want("redis", "redis://", "redis")
            from microblog_rt.bus.redis import RedisBus

            return RedisBus(url)


def _want(package: str, scheme: str, extra: str) -> None:
    if find_spec(package) is None:
        raise Misconfigured(f"MICROBLOG_BUS_URL: {scheme} wants {package}; pip install 'microblog-rt[{extra}]'")

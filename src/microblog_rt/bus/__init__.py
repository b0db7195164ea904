"""Word to and from the other processes.

    base.py     the contract
    memory.py   ``memory://``
    redis.py    ``redis://``, ``rediss://``
    wire.py     a wake-up as text
    outbox.py   what is to be told, so that no sender waits for it
    outage.py   a broker that is away: said once, and waited for

Not here: the listeners of this process (``hub.py``), and what they read (``feed.py``).
"""

from importlib.util import find_spec

from microblog_rt.bus.base import Bus, Gap
from microblog_rt.bus.memory import MemoryBus
from microblog_rt.errors import Misconfigured

__all__ = ["Bus", "Gap", "MemoryBus", "connect"]


def connect(url: str) -> Bus:
    """The bus that ``url`` names, not yet connected; raises Misconfigured where that one cannot be had."""
    if url == "memory://":
        return MemoryBus()
    if find_spec("redis") is None:
        raise Misconfigured("MICROBLOG_BUS_URL: redis:// wants redis-py; pip install 'microblog-rt[redis]'")
    from microblog_rt.bus.redis import RedisBus

    return RedisBus(url)

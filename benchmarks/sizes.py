"""The sizes of the benchmarks: those of the goals, and smaller ones for a run without peers, which takes 3 minutes."""

from typing import NamedTuple


class Sizes(NamedTuple):
    """The numbers of tabs, events, users and messages."""

    memory: tuple[int, ...] = (1_000, 5_000, 15_000)  # tabs; the second is the row of the table
    many: int = 50_000  # tabs in one process, where the limit of descriptors allows them; 0: not measured
    heartbeat: bool = True  # whether the memory is measured after a heartbeat as well
    deliver: tuple[int, ...] = (500, 2_000, 8_000)  # tabs of one user; the second is the row of the table
    single: int = 2_000  # tabs of as many users
    messages: int = 1_000_000
    rounds: int = 4  # in which messages are sent and read
    gap: int = 1_000  # users, with ten tabs each
    returning: int = 15_000  # tabs
    sends: int = 800
    timed_sends: int = 1_000


FULL = Sizes()
QUICK = Sizes(
    memory=(1_000, 5_000),
    many=0,
    heartbeat=False,
    deliver=(500, 2_000),
    single=200,
    messages=200_000,
    rounds=2,
    gap=300,
    returning=2_000,
    sends=160,
    timed_sends=200,
)

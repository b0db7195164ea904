"""The rows of the proof: which faults are injected under which load, and what must hold during them.

Each row returns its figures and the violations it found. See also: ``checks.py`` for the invariants checked at its end.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.proof import faults
from tests.proof.faults import Fault, recovery_time
from tests.proof.ledger import ACKNOWLEDGED, Attempt, Send
from tests.proof.tabs import Tab
from tests.proof.world import SOON, SWEPT, World

REFUSED_WITHIN = 2.3  # seconds, while the database is down: 2, and some for the load generator
RECOVERED_WITHIN = 5.0  # seconds
RESTARTED_WITHIN = 2.0  # seconds, for a tab to reach the other host
OUTAGE_RATE = 4.0  # sends a second while the database is down; each is retried until acknowledged


class Scale(NamedTuple):
    """The size of a run: tabs, sends a second, numbers of faults, and lengths of outages."""

    tabs: int
    rate: float
    faults: int
    kills: int
    bus_faults: int
    bus_seconds: tuple[float, float]
    outages: Sequence[float]  # seconds, of the database
    rolls: int


SHORT = Scale(tabs=60, rate=12, faults=4, kills=4, bus_faults=3, bus_seconds=(0.5, 1.5), outages=[1], rolls=1)
FULL = Scale(tabs=500, rate=50, faults=60, kills=300, bus_faults=20, bus_seconds=(1, 8), outages=[1, 10, 60], rolls=1)


class Result(NamedTuple):
    """The outcome of one row: figures by label, and violations as sentences."""

    name: str
    figures: dict[str, object]
    wrong: list[str]


Row = Callable[[World, Scale], Awaitable[Result]]


async def random_faults(world: World, scale: Scale) -> Result:
    """Row 11: faults of all kinds, some two at a time."""
    names: list[str] = []
    async with _load(world, scale.rate) as sends:
        while len(names) < scale.faults:
            some = world.dice.sample(faults.ALL, world.dice.choice([1, 1, 2]))
            if len({_victim(fault) for fault in some}) < len(some):
                continue  # two faults of the same process
            names += [fault.__name__ for fault in some]
            await asyncio.gather(*[fault(world, world.dice.uniform(0.3, 3)) for fault in some])
            await asyncio.sleep(world.dice.uniform(0, 1))
    return await _settled("11 random faults", world, sends, SWEPT, {"faults": len(names)}, [])


async def kills(world: World, scale: Scale) -> Result:
    """Row 12: a process is killed every 0.5 to 3 seconds; the unaffected host serves throughout."""
    started: list[Kill] = []
    async with _load(world, scale.rate) as sends, asyncio.TaskGroup() as group:
        for _ in range(scale.kills):
            while len({kill.victim for kill in started if kill.in_progress}) == len(VICTIMS):
                await asyncio.sleep(0.1)
            started.append(Kill(world, started))
            group.create_task(started[-1].run(world))
            await asyncio.sleep(world.dice.uniform(0.5, 3))
    meanwhile = [each for each in _attempts(sends()) if _must_succeed(each, started)]
    wrong = [f"12: {each} failed, though only the other host was killed" for each in meanwhile if not _served(each)]
    kinds = Counter(kill.fault.__name__ for kill in started)
    figures: dict[str, object] = {"kills": scale.kills, **kinds, "requests to the unaffected host": len(meanwhile)}
    return await _settled("12 kills", world, sends, SWEPT, figures, wrong)


async def bus_down(world: World, scale: Scale) -> Result:
    """Row 13: sends succeed at the first attempt, and no streaming tab is stale for longer than a sweep."""
    count: dict[str, int] = {}
    async with _load(world, scale.rate) as sends:
        _clear_delays(world)
        for number in range(scale.bus_faults):
            fault = faults.BUS[number % len(faults.BUS)]
            count[fault.__name__] = count.get(fault.__name__, 0) + 1
            await fault(world, world.dice.uniform(*scale.bus_seconds))
            await asyncio.sleep(world.dice.uniform(0, 1))
    settled = await _settled("13 bus down", world, sends, SWEPT, {**count}, [])
    tries = _attempts(sends())
    wrong = [f"13: {each} though only the bus was down" for each in tries if not _served(each)]
    slowest = max(each.ended - each.begun for each in tries)
    stale = _staleness(world)
    late = [f"13: a tab was stale for {stale[-1]:.2f} s"] if stale and stale[-1] > SWEPT else []
    figures = {
        "slowest send": slowest,
        "shown": len(stale),
        "stale p50": _quantile(stale, 0.5),
        "stale max": _quantile(stale, 1),
    }
    return Result(settled.name, {**settled.figures, **figures}, [*settled.wrong, *wrong, *late])


async def database_down(world: World, scale: Scale) -> Result:
    """Row 14: refused within two seconds while the database is down, and served within five after it returns."""
    wrong: list[str] = []
    refusals, slowest, recoveries, closes = 0, 0.0, [0.0], 0
    outages: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
        ("stopped", world.database.stop, world.database.start),
        ("hung", world.database.pause, world.database.resume),
    ]
    async with _load(world, OUTAGE_RATE) as sends:
        for seconds in scale.outages:
            for how, begin, end in outages:
                closed = sum(world.ledger.closes.values())
                await asyncio.to_thread(begin)
                at = world.ledger.now()
                await asyncio.sleep(seconds)
                until = world.ledger.now()
                await asyncio.to_thread(end)
                recoveries += await asyncio.gather(*[recovery_time(world, host) for host in world.hosts])
                closes += sum(world.ledger.closes.values()) - closed
                during = [each for each in _attempts(sends()) if at < each.begun and each.ended < until]
                wrong += [f"14: {each}, the database {how}" for each in during if not _refused(each)]
                refusals += len(during)
                slowest = max([slowest, *[each.ended - each.begun for each in during]])
    wrong += [f"14: recovered after {max(recoveries):.2f} s"] if max(recoveries) > RECOVERED_WITHIN else []
    figures: dict[str, object] = {
        "outages (s), stopped and hung": [*scale.outages],
        "refusals": refusals,
        "slowest refusal": slowest,
    }
    figures["requests not refused as required"] = len(wrong)
    figures |= {"recovered within": max(recoveries), "tabs closed": closes}
    return await _settled("14 database down", world, sends, SOON, figures, wrong)


async def rolling_restart(world: World, scale: Scale) -> Result:
    """Row 15: hosts are restarted one after the other: no failed send, no 1011, no streaming tab stale for 2 s."""
    wrong: list[str] = []
    closed = world.ledger.closes.copy()
    async with _load(world, scale.rate) as sends:
        _clear_delays(world)
        for _ in range(scale.rolls):
            for host in world.hosts:
                status = await asyncio.to_thread(host.stop)
                wrong += [f"host {host.name} ended with {status}"] if status else []
                await asyncio.to_thread(host.start)
                await world.open_all()
    closes = world.ledger.closes - closed
    wrong += [f"{closes[1011]} tabs were closed with 1011"] if closes[1011] else []
    figures: dict[str, object] = {"restarts": 2 * scale.rolls, "closes": dict(closes)}
    result = await _settled("rolling restart", world, sends, SOON, figures, wrong)
    stale = sorted(seconds for tab in _streams(world) for seconds in tab.stale)
    late = [f"15: a tab was stale for {stale[-1]:.2f} s"] if stale and stale[-1] > RESTARTED_WITHIN else []
    failed = [send for send in sends() if _failed_at_both(send)]
    wrong = [*result.wrong, *late, *[f"rolling: refused by both hosts: {send.attempts}" for send in failed]]
    figures = {**result.figures, "sends that failed": len(failed), "stale max": _quantile(stale, 1)}
    return Result(result.name, figures, wrong)


ROWS: list[Row] = [random_faults, kills, bus_down, database_down, rolling_restart]


@asynccontextmanager
async def _load(world: World, rate: float) -> AsyncIterator[Callable[[], list[Send]]]:
    """Run the workload during the block; yields a function that returns the sends since its start."""
    await world.open_all()
    first = len(world.ledger.sends)
    world.workload.start(rate)
    yield lambda: world.ledger.sends[first:]


async def _settled(
    name: str,
    world: World,
    sends: Callable[[], list[Send]],
    within: float,
    figures: dict[str, object],
    wrong: list[str],
) -> Result:
    end = await world.settle(within)
    some = sends()
    outcomes = Counter(each.outcome for send in some for each in send.attempts)
    figures = {
        **figures,
        "sends": len(some),
        "acknowledged": sum(send.acknowledged is not None for send in some),
        "attempts": dict(outcomes),
        "tabs": end.tabs,
        "correct": end.correct,
        "streams correct within (s)": end.streamed,
        "polls correct within (s)": end.polled,
        "Python clients correct within (s)": end.followed,
    }
    return Result(name, figures, wrong + end.wrong)


VICTIMS = ["A", "B", "database", "bus"]
WEIGHTS = [4, 4, 1, 1]
KILLS: dict[str, list[Fault]] = {
    "host": [faults.worker_killed, faults.worker_killed, faults.worker_killed, faults.host_killed],
    "database": [faults.database_killed, faults.database_backend_killed],
    "bus": [faults.redis_killed],
}
AFTER = 0.5  # seconds after its end during which a kill may still affect requests


def _victim(fault: Fault) -> str:
    return fault.__name__.partition("_")[0]


class Kill:
    """One kill: its victim, and from when to when requests to it may fail."""

    def __init__(self, world: World, started: Sequence["Kill"]) -> None:
        busy = {kill.victim for kill in started if kill.in_progress}
        free = {victim: weight for victim, weight in zip(VICTIMS, WEIGHTS, strict=True) if victim not in busy}
        self.victim: str = world.dice.choices([*free], [*free.values()])[0]
        self.host = next((host for host in world.hosts if host.name == self.victim), None)
        self.fault = world.dice.choice(KILLS["host" if self.host else self.victim])
        self.begun = world.ledger.now()
        self.ended = float("inf")

    @property
    def in_progress(self) -> bool:
        return self.ended == float("inf")

    async def run(self, world: World) -> None:
        """Kill, and wait until the victim serves again."""
        options = {"host": self.host} if self.host else {}
        await self.fault(world, world.dice.uniform(0, 1), **options)
        self.ended = world.ledger.now()

    def overlaps(self, attempt: Attempt) -> bool:
        """Whether the attempt was made while this kill was in progress."""
        return self.begun <= attempt.ended and attempt.begun <= self.ended + AFTER


def _must_succeed(attempt: Attempt, started: Sequence[Kill]) -> bool:
    """Whether the other host was killed during the attempt, and neither its own host nor the database."""
    overlapping = {kill.victim for kill in started if kill.overlaps(attempt)}
    return bool(overlapping & {"A", "B"}) and not overlapping & {attempt.host, "database"}


def _attempts(sends: list[Send]) -> list[Attempt]:
    return [each for send in sends for each in send.attempts if each.outcome != "abandoned"]


def _served(attempt: Attempt) -> bool:
    return attempt.outcome == ACKNOWLEDGED


def _refused(attempt: Attempt) -> bool:
    """Whether the attempt was refused in time, with 503 and Retry-After."""
    in_time = attempt.ended - attempt.begun <= REFUSED_WITHIN
    return attempt.outcome == "503" and attempt.retry_after is not None and in_time


def _failed_at_both(send: Send) -> bool:
    """Whether both hosts failed; attempts that the client aborted do not count."""
    tried = [each for each in send.attempts if each.outcome != "abandoned"]
    return len(tried) > 2 or send.acknowledged is None


def _clear_delays(world: World) -> None:
    for tab in world.tabs:
        tab.delays.clear()
        tab.stale.clear()


def _staleness(world: World) -> list[float]:
    return sorted(delay for tab in _streams(world) for delay in tab.delays)


def _streams(world: World) -> list[Tab]:
    return [tab for tab in world.tabs if tab.streams and not tab.person.reads]


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else 0.0

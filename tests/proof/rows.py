"""The rows of the proof: what is broken, and how often, while what goes on, and what may not happen meanwhile.

Each returns its figures and what is wrong. Not here: what must be true in the end, whatever was broken (``checks.py``).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.proof import faults
from tests.proof.faults import Fault, back
from tests.proof.ledger import ACKNOWLEDGED, Attempt, Send
from tests.proof.tabs import Poll
from tests.proof.world import SOON, SWEPT, World

ANSWERED_WITHIN = 2.3  # seconds, a no while the database is away: 2, and what this machine takes beside
BACK_WITHIN = 5.0
AWAY_RATE = 4.0  # sends a second while the database is away: each of them is tried again and again


class Scale(NamedTuple):
    """How much of everything."""

    tabs: int
    rate: float
    faults: int
    kills: int
    bus_faults: int
    bus_seconds: tuple[float, float]
    away: Sequence[float]  # seconds
    rolls: int


SHORT = Scale(tabs=60, rate=12, faults=4, kills=4, bus_faults=3, bus_seconds=(0.5, 1.5), away=[1], rolls=1)
FULL = Scale(tabs=500, rate=50, faults=60, kills=300, bus_faults=20, bus_seconds=(1, 8), away=[1, 10, 60], rolls=1)


class Result(NamedTuple):
    """One row: its figures, in words, and what is wrong."""

    name: str
    figures: dict[str, object]
    wrong: list[str]


Row = Callable[[World, Scale], Awaitable[Result]]


async def random_faults(world: World, scale: Scale) -> Result:
    """Row 11: faults of every kind, some two at once."""
    names: list[str] = []
    async with _going_on(world, scale.rate) as sends:
        while len(names) < scale.faults:
            some = world.dice.sample(faults.ALL, world.dice.choice([1, 1, 2]))
            if len({_victim(fault) for fault in some}) < len(some):
                continue  # what is down cannot be hung as well
            names += [fault.__name__ for fault in some]
            await asyncio.gather(*[fault(world, world.dice.uniform(0.3, 3)) for fault in some])
            await asyncio.sleep(world.dice.uniform(0, 1))
    return await _settled("11 random faults", world, sends, SWEPT, {"faults": len(names)}, [])


async def kills(world: World, scale: Scale) -> Result:
    """Row 12: a process is killed every 0.5 to 3 seconds; the host that nothing is done to serves throughout."""
    harms: list[Harm] = []
    async with _going_on(world, scale.rate) as sends, asyncio.TaskGroup() as group:
        for _ in range(scale.kills):
            while len({harm.whom for harm in harms if harm.lasts}) == len(VICTIMS):
                await asyncio.sleep(0.1)
            harms.append(Harm(world, harms))
            group.create_task(harms[-1].do(world))
            await asyncio.sleep(world.dice.uniform(0.5, 3))
    meanwhile = [each for each in _attempts(sends()) if _not_concerned(each, harms)]
    wrong = [f"12: {each} failed, though only the other host was hurt" for each in meanwhile if not _served(each)]
    kinds = Counter(harm.fault.__name__ for harm in harms)
    figures: dict[str, object] = {"kills": scale.kills, **kinds, "requests to the other host meanwhile": len(meanwhile)}
    return await _settled("12 kills", world, sends, SWEPT, figures, wrong)


async def bus_away(world: World, scale: Scale) -> Result:
    """Row 13: sends succeed at the first attempt, and no tab that streams is stale for longer than a sweep."""
    count: dict[str, int] = {}
    async with _going_on(world, scale.rate) as sends:
        _forget_delays(world)
        for number in range(scale.bus_faults):
            fault = faults.BUS[number % len(faults.BUS)]
            count[fault.__name__] = count.get(fault.__name__, 0) + 1
            await fault(world, world.dice.uniform(*scale.bus_seconds))
            await asyncio.sleep(world.dice.uniform(0, 1))
    settled = await _settled("13 bus away", world, sends, SWEPT, {**count}, [])
    tries = _attempts(sends())
    wrong = [f"13: {each} though only the bus was away" for each in tries if not _served(each)]
    slowest = max(each.ended - each.begun for each in tries)
    stale = _staleness(world)
    late = [f"13: a tab was stale for {stale[-1]:.2f} s"] if stale and stale[-1] > SWEPT else []
    figures = {"slowest send": slowest, "shown": len(stale), "stale p50": _at(stale, 0.5), "stale max": _at(stale, 1)}
    return Result(settled.name, {**settled.figures, **figures}, [*settled.wrong, *wrong, *late])


async def database_away(world: World, scale: Scale) -> Result:
    """Row 14: a clear no within two seconds, and back within five."""
    wrong: list[str] = []
    no, slowest, returns, left = 0, 0.0, [0.0], 0
    leaving: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
        ("gone", world.database.stop, world.database.start),
        ("hung", world.database.pause, world.database.resume),
    ]
    async with _going_on(world, AWAY_RATE) as sends:
        for seconds in scale.away:
            for how, leave, come_back in leaving:
                closed = sum(world.ledger.closes.values())
                await asyncio.to_thread(leave)
                at = world.ledger.now()
                await asyncio.sleep(seconds)
                until = world.ledger.now()
                await asyncio.to_thread(come_back)
                returns += await asyncio.gather(*[back(world, host) for host in world.hosts])
                left += sum(world.ledger.closes.values()) - closed
                during = [each for each in _attempts(sends()) if at < each.begun and each.ended < until]
                wrong += [f"14: {each}, the database {how}" for each in during if not _refused(each)]
                no += len(during)
                slowest = max([slowest, *[each.ended - each.begun for each in during]])
    wrong += [f"14: back after {max(returns):.2f} s"] if max(returns) > BACK_WITHIN else []
    figures: dict[str, object] = {
        "away (s)": [*scale.away],
        "each gone and hung, refusals": no,
        "slowest refusal": slowest,
    }
    figures["later than it may be, or otherwise"] = len(wrong)
    figures |= {"back within": max(returns), "tabs closed": left}
    return await _settled("14 database away", world, sends, SOON, figures, wrong)


async def rolling_restart(world: World, scale: Scale) -> Result:
    """Both hosts are upgraded one after the other under load: no failed send, no 1011, every tab right."""
    wrong: list[str] = []
    closed = world.ledger.closes.copy()
    async with _going_on(world, scale.rate) as sends:
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
    failed = [send for send in sends() if _saw_an_error(send)]
    wrong = [*result.wrong, *[f"rolling: somebody saw an error: {send.attempts}" for send in failed]]
    return Result(result.name, {**result.figures, "sends that failed": len(failed)}, wrong)


ROWS: list[Row] = [random_faults, kills, bus_away, database_away, rolling_restart]


@asynccontextmanager
async def _going_on(world: World, rate: float) -> AsyncIterator[Callable[[], list[Send]]]:
    """What people do goes on in the block; the sends since its beginning."""
    await world.open_all()
    first = len(world.ledger.sends)
    world.doing.begin(rate)
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
        "right": end.right,
        "right within, streams": end.streamed,
        "polls": end.polled,
    }
    return Result(name, figures, wrong + end.wrong)


VICTIMS = ["A", "B", "database", "bus"]
OFTEN = [4, 4, 1, 1]
HARMS: dict[str, list[Fault]] = {
    "host": [faults.worker_killed, faults.worker_killed, faults.worker_killed, faults.host_killed],
    "database": [faults.database_killed, faults.database_backend_killed],
    "bus": [faults.redis_killed],
}
AFTER = 0.5  # seconds that a harm to the database may still be felt


def _victim(fault: Fault) -> str:
    return fault.__name__.partition("_")[0]


class Harm:
    """One kill: of what, from when to when nobody else's is to be seen to."""

    def __init__(self, world: World, harms: Sequence["Harm"]) -> None:
        hurt = {harm.whom for harm in harms if harm.lasts}
        free = {victim: weight for victim, weight in zip(VICTIMS, OFTEN, strict=True) if victim not in hurt}
        self.whom: str = world.dice.choices([*free], [*free.values()])[0]
        self.host = next((host for host in world.hosts if host.name == self.whom), None)
        self.fault = world.dice.choice(HARMS["host" if self.host else self.whom])
        self.begun = world.ledger.now()
        self.ended = float("inf")

    @property
    def lasts(self) -> bool:
        return self.ended == float("inf")

    async def do(self, world: World) -> None:
        """Kill, and wait until all is as before."""
        about = {"host": self.host} if self.host else {}
        await self.fault(world, world.dice.uniform(0, 1), **about)
        self.ended = world.ledger.now()

    def meets(self, attempt: Attempt) -> bool:
        """Whether something was tried while it lasted."""
        return self.begun <= attempt.ended and attempt.begun <= self.ended + AFTER


def _not_concerned(attempt: Attempt, harms: Sequence[Harm]) -> bool:
    """Whether, when that was tried, the other host was hurt, and neither its own nor the database."""
    met = {harm.whom for harm in harms if harm.meets(attempt)}
    return bool(met & {"A", "B"}) and not met & {attempt.host, "database"}


def _attempts(sends: list[Send]) -> list[Attempt]:
    return [each for send in sends for each in send.attempts if each.outcome != "abandoned"]


def _served(attempt: Attempt) -> bool:
    return attempt.outcome == ACKNOWLEDGED


def _refused(attempt: Attempt) -> bool:
    """Whether it was told, in time, that it does not work, and when to come again."""
    in_time = attempt.ended - attempt.begun <= ANSWERED_WITHIN
    return attempt.outcome == "503" and attempt.retry_after is not None and in_time


def _saw_an_error(send: Send) -> bool:
    """Whether both hosts were tried in vain; somebody who went away by themselves is not one of them."""
    tried = [each for each in send.attempts if each.outcome != "abandoned"]
    return len(tried) > 2 or send.acknowledged is None


def _forget_delays(world: World) -> None:
    for tab in world.tabs:
        tab.delays.clear()


def _staleness(world: World) -> list[float]:
    streams = [tab for tab in world.tabs if tab.kind != Poll.kind and not tab.person.reads]
    return sorted(delay for tab in streams for delay in tab.delays)


def _at(ordered: list[float], part: float) -> float:
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else 0.0

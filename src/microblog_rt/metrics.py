"""What is counted, for whoever watches over it: plain numbers, the same whichever worker is asked.

Each process counts in a row of its own; the rows of workers lie in memory that they share with their supervisor,
so that any of them can add them up. A count is one addition in memory: a tenth of a microsecond, where
prometheus-client's values for several processes (files, and a lock) take one or two. The counts of a worker that
has ended stay, in the supervisor's row; what it held is gone. Not here: who may read it (``web/metrics.py``).
"""

import mmap
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
NUMBER = 8  # bytes

_rows: "list[memoryview[float]]"
_mine: "memoryview[float]"
_families: list["Family"] = []
_row_length = 0


class Counter:
    """Something that happens; the number only grows."""

    __slots__ = ("_place",)

    def __init__(self) -> None:
        self._place = _reserve(1)

    def count(self, times: int = 1) -> None:
        """It happened."""
        _mine[self._place] += times

    def value(self, row: Sequence[float]) -> float:
        return row[self._place]


class Gauge(Counter):
    """Something that a process has so many of, as long as it lives."""

    __slots__ = ()

    def set(self, number: float) -> None:
        """So many."""
        _mine[self._place] = number


class Histogram:
    """How long something took."""

    __slots__ = ("_place", "_sum")

    def __init__(self) -> None:
        self._place = _reserve(len(SECONDS) + 1)
        self._sum = _reserve(1)

    def observe(self, seconds: float) -> None:
        """It took so long; clocks that disagree may make it less than nothing, which counts as that."""
        seconds = max(seconds, 0.0)
        _mine[self._place + bisect_left(SECONDS, seconds)] += 1
        _mine[self._sum] += seconds

    def buckets(self, row: Sequence[float]) -> list[tuple[str, float]]:
        counts = row[self._place : self._place + len(SECONDS) + 1]
        return list(zip([*map(str, SECONDS), "+Inf"], accumulate(counts), strict=True))

    def sum(self, row: Sequence[float]) -> float:
        return row[self._sum]


class Family:
    """All that has one name: one number, or one for each value of a label, which is never a client's to choose."""

    def __init__(self, name: str, about: str, label: str = "") -> None:
        self._name, self._about = name, about
        self._labels = [label] if label else []
        self._counters: dict[str, Counter] = {}
        self._histogram: Histogram | None = None
        _families.append(self)

    def counter(self, value: str = "") -> Counter:
        return self._counters.setdefault(value, Counter())

    def gauge(self, value: str = "") -> Gauge:
        gauge = Gauge()
        self._counters[value] = gauge
        return gauge

    def histogram(self) -> Histogram:
        self._histogram = Histogram()
        return self._histogram

    def told(self, row: Sequence[float]) -> Metric:
        """The family as prometheus-client knows it, with the numbers of ``row``."""
        if self._histogram is not None:
            return HistogramMetricFamily(
                self._name, self._about, self._histogram.buckets(row), self._histogram.sum(row)
            )
        gauges = any(isinstance(each, Gauge) for each in self._counters.values())
        kind = GaugeMetricFamily if gauges else CounterMetricFamily
        family = kind(self._name, self._about, labels=self._labels)
        for value, counter in self._counters.items():
            family.add_metric([value] if self._labels else [], counter.value(row))
        return family


def _reserve(numbers: int) -> int:
    global _row_length
    _row_length += numbers
    return _row_length - numbers


_tabs = Family("microblog_tabs", "Open tabs.", "transport")
WEBSOCKETS, LONG_POLLS = _tabs.gauge("websocket"), _tabs.gauge("long_poll")

_polls = Family("microblog_polls", "Polls that were answered; long polls when they ended.", "transport")
POLLS = {each: _polls.counter(each) for each in ("poll", "long_poll")}

_deliveries = Family("microblog_deliveries", "Frames and answers that told news.", "transport")
DELIVERIES = {each: _deliveries.counter(each) for each in ("websocket", "long_poll", "poll")}

CONFLATED = Family("microblog_conflated", "States that a newer one replaced before a tab was told.").counter()
SWEEP_FINDS = Family("microblog_sweep_finds", "Users of whose news no signal-up had come.").counter()
GAPS = Family("microblog_gaps", "Times that the bus may have lost signal-ups, so that everybody read.").counter()

SENT_AFTER = Family("microblog_commit_to_send_seconds", "From the stamp of a change to its frame.").histogram()
ACKNOWLEDGED_AFTER = Family(
    "microblog_commit_to_acknowledge_seconds", "From the stamp of a change to a client's word that it is applied."
).histogram()

_closes = Family("microblog_closes", "WebSockets that ended; 1006 without a word.", "code")
CLOSES = {
    code: _closes.counter(str(code))
    for code in (1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009, 1011, 1012, 4401, 4403, 4408, 4429, 4503)
}
OTHER_CLOSES = _closes.counter("other")

_limits = Family("microblog_limits_hit", "What was refused for being too much or too often.", "limit")
LIMITS = {each: _limits.counter(each) for each in ("sign_in", "register", "send", "tabs", "frames")}
OTHER_LIMITS = _limits.counter("other")

SENDS = Family("microblog_sends", "Messages that were committed.").counter()
DATABASE_TROUBLE = Family("microblog_database_trouble", "Times that the database was locked, full or away.").counter()
UNEXPECTED = Family("microblog_unexpected", "Errors that nobody foresaw; each is in the log.").counter()

WORKERS = Family("microblog_workers", "Processes that serve.").gauge()
HEARING = Family("microblog_workers_hearing", "Processes that hear the others, as the bus last knew.").gauge()
REPLACED = Family("microblog_workers_replaced", "Workers that ended unasked.").counter()

_rows = [memoryview(bytearray(NUMBER * _row_length)).cast("d")]
_mine = _rows[0]


def closed(code: int) -> None:
    """A WebSocket ended with ``code``, ours or the client's."""
    CLOSES.get(code, OTHER_CLOSES).count()


def limit_hit(subject: str) -> None:
    """Something was refused; ``subject`` begins with the name of the limit."""
    LIMITS.get(subject.partition(":")[0], OTHER_LIMITS).count()


def text() -> bytes:
    """Every number there is, added up over the workers, in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Everything())
    return generate_latest(registry)


class _Everything(Collector):
    def collect(self) -> Iterable[Metric]:
        total = [sum(numbers) for numbers in zip(*_rows, strict=True)]
        return [family.told(total) for family in _families]


def share(workers: int) -> None:
    """Before workers are forked: a row for each of them, from 1 on, beside that of this process, in shared memory."""
    global _rows, _mine
    memory = memoryview(mmap.mmap(-1, NUMBER * _row_length * (workers + 1))).cast("d")
    memory[:_row_length] = _mine
    _rows = [memory[start : start + _row_length] for start in range(0, len(memory), _row_length)]
    _mine = _rows[0]


def work_at(place: int) -> None:
    """In a worker: count in that row from now on."""
    global _mine
    _mine = _rows[place]


def clear(place: int) -> None:
    """In the supervisor: whoever counted in that row has ended. What happened has happened; what it held is gone."""
    ended = _rows[place]
    for each in _places_of_counts():
        _mine[each] += ended[each]
    ended[:] = memoryview(bytes(NUMBER * _row_length)).cast("d")


def _places_of_counts() -> list[int]:
    held = {each._place for family in _families for each in family._counters.values() if isinstance(each, Gauge)}
    return [each for each in range(_row_length) if each not in held]

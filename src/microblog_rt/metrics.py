"""Metrics in Prometheus's format, summed over all workers, so that every worker gives the same answer.

Each process counts in its own row of numbers. The rows of workers are in memory shared with the supervisor. Counting is
one addition, 0.1 microseconds; prometheus-client's multi-process values (files and a lock) take one or two. When a
worker ends, its gauges are dropped; the worker that replaces it continues its counters, so nothing is counted twice.
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
_own: "memoryview[float]"
_families: list["Family"] = []
_gauges: list["Gauge"] = []
_row_length = 0


class Counter:
    """A number that only grows."""

    __slots__ = ("_place",)

    def __init__(self) -> None:
        self._place = _reserve(1)

    def count(self, times: int = 1) -> None:
        """Add ``times``."""
        _own[self._place] += times

    def value(self, row: Sequence[float]) -> float:
        return row[self._place]

    def at(self, slot: int) -> float:
        """The number of the worker at ``slot``."""
        return self.value(_rows[slot])


class Gauge(Counter):
    """A number that can fall, and is dropped when its process ends."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        _gauges.append(self)

    def drop(self, slot: int) -> None:
        """Set the number of the worker at ``slot`` to 0."""
        _rows[slot][self._place] = 0

    def set(self, number: float) -> None:
        """Set the number."""
        _own[self._place] = number


class Histogram:
    """A distribution of durations in seconds."""

    __slots__ = ("_place", "_sum")

    def __init__(self) -> None:
        self._place = _reserve(len(SECONDS) + 1)
        self._sum = _reserve(1)

    def observe(self, seconds: float) -> None:
        """Add a duration; negative ones, from clocks that disagree, count as 0."""
        seconds = max(seconds, 0.0)
        _own[self._place + bisect_left(SECONDS, seconds)] += 1
        _own[self._sum] += seconds

    def buckets(self, row: Sequence[float]) -> list[tuple[str, float]]:
        counts = row[self._place : self._place + len(SECONDS) + 1]
        return list(zip([*map(str, SECONDS), "+Inf"], accumulate(counts), strict=True))

    def sum(self, row: Sequence[float]) -> float:
        return row[self._sum]


class Family:
    """The metrics of one name: one, or one per value of a label. Clients never choose label values."""

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

    def metric(self, row: Sequence[float]) -> Metric:
        """The family in prometheus-client's types, with the numbers of ``row``."""
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
STREAMS = {each: _tabs.gauge(each) for each in ("sse", "ndjson")}

_polls = Family("microblog_polls", "Polls answered; long polls when they ended.", "transport")
POLLS = {each: _polls.counter(each) for each in ("poll", "long_poll")}

_deliveries = Family(
    "microblog_deliveries", "Frames, parts of streams and responses that carried notifications.", "transport"
)
DELIVERIES = {each: _deliveries.counter(each) for each in ("websocket", "long_poll", "poll", "sse", "ndjson")}

CONFLATED = Family("microblog_conflated", "Notifications replaced by newer ones before they were sent.").counter()
SIGNALS_LOST = Family("microblog_signals_lost", "Changes found by a sweep whose signal never arrived.").counter()
GAPS = Family("microblog_gaps", "Gaps: times that the bus may have lost signals of any user.").counter()

SENT_AFTER = Family("microblog_commit_to_send_seconds", "Time from the stamp of a change to its frame.").histogram()
ACKNOWLEDGED_AFTER = Family(
    "microblog_commit_to_acknowledge_seconds", "Time from the stamp of a change to the client's acknowledgement."
).histogram()

_closes = Family("microblog_closes", "WebSockets closed, by code; 1006: without a close frame.", "code")
CLOSES = {
    code: _closes.counter(str(code))
    for code in (1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009, 1011, 1012, 4401, 4403, 4408, 4429, 4503)
}
OTHER_CLOSES = _closes.counter("other")

_limits = Family("microblog_limits_hit", "Requests refused by a limit.", "limit")
LIMITS = {
    each: _limits.counter(each)
    for each in ("sign_in", "register", "mail", "send", "publish", "tabs", "connections", "frames")
}
OTHER_LIMITS = _limits.counter("other")

SENDS = Family("microblog_sends", "Messages committed.").counter()
DATABASE_UNAVAILABLE = Family(
    "microblog_database_unavailable", "Operations that failed because the database was unavailable."
).counter()
UNEXPECTED_ERRORS = Family("microblog_unexpected_errors", "Unexpected errors; each is logged.").counter()

_webhooks = Family("microblog_webhooks", "POSTs of webhooks, by outcome.", "outcome")
WEBHOOKS = {each: _webhooks.counter(each) for each in ("delivered", "failed", "given_up")}

LOG_LINES_LOST = Family("microblog_log_lines_lost", "Log lines dropped since the log's reader did not read.").counter()
ACCEPT_PAUSES = Family(
    "microblog_accept_pauses", "Times that accepting connections paused for a second: few descriptors were left."
).counter()

WORKERS = Family("microblog_workers", "Worker processes that serve.").gauge()
CONNECTED = Family("microblog_workers_connected", "Worker processes whose bus is connected.").gauge()
REPLACED = Family("microblog_workers_replaced", "Workers that died and were replaced.").counter()
STALLED = Family("microblog_workers_stalled", "Workers that were killed because their event loop stalled.").counter()
CONNECTIONS = Family("microblog_connections", "Open connections, idle ones included.").gauge()
TURNS = Counter()  # not published: progress of a worker's event loop, which the supervisor watches

_rows = [memoryview(bytearray(NUMBER * _row_length)).cast("d")]
_own = _rows[0]


def closed(code: int) -> None:
    """Count a WebSocket that was closed with ``code``, by either side."""
    CLOSES.get(code, OTHER_CLOSES).count()


def limit_hit(subject: str) -> None:
    """Count a refusal; ``subject`` begins with the name of the limit."""
    LIMITS.get(subject.partition(":")[0], OTHER_LIMITS).count()


def text() -> bytes:
    """All metrics, summed over the workers, in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_AllMetrics())
    return generate_latest(registry)


class _AllMetrics(Collector):
    def collect(self) -> Iterable[Metric]:
        total = [sum(numbers) for numbers in zip(*_rows, strict=True)]
        return [family.metric(total) for family in _families]


def share(workers: int) -> None:
    """Before forking: allocate a row per worker (from 1) beside that of this process, in shared memory."""
    global _rows, _own
    memory = memoryview(mmap.mmap(-1, NUMBER * _row_length * (workers + 1))).cast("d")
    memory[:_row_length] = _own
    _rows = [memory[start : start + _row_length] for start in range(0, len(memory), _row_length)]
    _own = _rows[0]


def work_at(slot: int) -> None:
    """In a worker: count in that row from now on."""
    global _own
    _own = _rows[slot]


def clear(slot: int) -> None:
    """In the supervisor: drop the gauges of an ended worker."""
    for gauge in _gauges:
        gauge.drop(slot)


def connections() -> tuple[float, float]:
    """The open connections of this process, and their mean over the workers that serve."""
    serving = [CONNECTIONS.value(row) for row in _rows if WORKERS.value(row)]
    own = CONNECTIONS.value(_own)
    return own, sum(serving) / len(serving) if serving else own

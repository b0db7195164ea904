"""Durations measured by tests: checked against a limit, and kept for a report."""

from pathlib import Path

from tests.timing import LoadMonitor


class Durations:
    """Report lines in the order of measurement."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.load = LoadMonitor()

    def check(self, what: str, begun: float, ended: float, limit: float) -> None:
        """Record the duration of ``what``; fail if it exceeds ``limit``, which the load of the machine may extend.

        All times are in seconds.
        """
        seconds, allowed = ended - begun, self.load.allows(limit, min(begun, ended))
        self.lines.append(f"{seconds:7.3f} s of {limit:g} s  {what}")
        # A tab may be updated a few milliseconds before the sender gets its response.
        assert limit - 1 - allowed < seconds <= allowed, (
            f"{what}: {seconds:.3f} s, limit {limit:g} s, {allowed:.3f} s under this load"
        )

    def write(self, path: Path) -> None:
        path.write_text("".join(f"{line}\n" for line in self.lines))

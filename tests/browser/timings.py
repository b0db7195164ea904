"""How long things took, and how long they may: held against a limit at once, and kept for a report."""

from pathlib import Path

from tests.timing import LoadMonitor


class Timings:
    """All that was measured, in the order of measuring."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.watch = LoadMonitor()

    def check(self, what: str, begun: float, ended: float, limit: float) -> None:
        """Note how long ``what`` took, and fail where that is over ``limit`` and no fault of the machine's."""
        seconds, allowed = ended - begun, self.watch.allows(limit, min(begun, ended))
        self.lines.append(f"{seconds:7.3f} s of {limit:g} s  {what}")
        # A tab may be told a few milliseconds before its sender is answered.
        assert limit - 1 - allowed < seconds <= allowed, (
            f"{what}: {seconds:.3f} s, and {limit:g} s are allowed, on this machine {allowed:.3f} s"
        )

    def write(self, path: Path) -> None:
        path.write_text("".join(f"{line}\n" for line in self.lines))

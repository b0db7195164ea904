"""How long things took, and how long they may: held against a limit at once, and kept for a report."""

from pathlib import Path


class Timings:
    """All that was measured, in the order of measuring."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def check(self, what: str, seconds: float, limit: float) -> None:
        """Note that ``what`` took ``seconds``, and fail where that is over ``limit``."""
        self.lines.append(f"{seconds:7.3f} s of {limit:g} s  {what}")
        # A tab may be told a few milliseconds before its sender is answered.
        assert -1 < seconds <= limit, f"{what}: {seconds:.3f} s, and {limit:g} s are allowed"

    def write(self, path: Path) -> None:
        path.write_text("".join(f"{line}\n" for line in self.lines))

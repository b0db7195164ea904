"""The allowance for a busy machine is capped."""

import pytest

from tests.timing import LoadMonitor, Sample


@pytest.mark.parametrize("field", ["pressure", "stolen", "missed"])
def test_load_allowance_at_most_doubles_the_bound(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = Sample(at=0.0, pressure=0.0, stolen=0.0, missed=0.0)
    monitor = LoadMonitor()
    monitor._samples.append(quiet)
    monkeypatch.setattr(monitor, "_sample", lambda: quiet._replace(at=100.0, **{field: 100.0}))
    assert monitor.allows(3, 0.0) == 6

"""The state of a database, for readiness checks."""

from typing import NamedTuple


class Health(NamedTuple):
    """``state`` is ``connected``, or why the database takes no writes: read-only, full, locked, replaced, disconnected.

    ``clock_ahead``: by how many seconds its clock is ahead of this host's; as accurate as the answer was fast.
    ``clocks_differ``: by more than ``Timeouts.clock_difference``.
    """

    state: str
    clock_ahead: float = 0.0
    clocks_differ: bool = False

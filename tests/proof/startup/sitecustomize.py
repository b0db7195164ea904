"""Runs first in every Python process with this folder on its path: a clock that is ahead, or a planted bug.

libfaketime does not serve: it breaks ``time.sleep`` and timed waits, which a fast clock does not.
"""

import os
import time

AHEAD = int(os.environ.get("PROOF_AHEAD", "0"))  # seconds
true_time, true_time_ns = time.time, time.time_ns

if AHEAD:
    time.time = lambda: true_time() + AHEAD
    time.time_ns = lambda: true_time_ns() + AHEAD * 1_000_000_000

if plant := os.environ.get("PROOF_PLANT"):
    from tests.proof import planted

    planted.apply(plant)

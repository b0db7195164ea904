"""Sets the clock ahead, or plants a bug, in every Python process that has this folder on its path.

libfaketime is not used because it changes ``time.sleep`` and timed waits too.
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

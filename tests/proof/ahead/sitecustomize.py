"""The wall clock of a host whose clock is ahead; Python imports this first, as it lies on that host's path.

Not libfaketime: with it Python's sleeping fails and its timed waits go wrong, which no fast clock does.
"""

import os
import time

AHEAD = int(os.environ["PROOF_AHEAD"])  # seconds
right, right_ns = time.time, time.time_ns

time.time = lambda: right() + AHEAD
time.time_ns = lambda: right_ns() + AHEAD * 1_000_000_000

"""Addresses of the servers that the tests start."""

import os
import random
import socket

# Below those that the system gives out by itself: what is free stays free while its server is stopped.
RANGE = 20_000, 32_000
# Not from the common source: two test processes may have seeded that alike.
chance = random.SystemRandom()
# To each process of a run its own, and none twice: a server that is stopped finds its port as it left it.
WORKER, WORKERS = (
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)),
)
given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens, and that nobody was given before."""
    while True:
        port = chance.randrange(RANGE[0] + WORKER, RANGE[1], WORKERS)
        if port in given:
            continue
        given.add(port)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port

"""Ports of the servers that the tests start."""

import os
import random
import socket

# Below the system's ephemeral range: a port stays free while its server is stopped.
RANGE = 20_000, 32_000
# Not from the shared generator, which two test processes may have seeded alike.
chance = random.SystemRandom()
# Each test process has its own ports, and uses none twice: a stopped server finds its port free.
WORKER, WORKERS = (
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)),
)
given: set[int] = set()


def free_port() -> int:
    """A free port of 127.0.0.1, never returned before."""
    while True:
        port = chance.randrange(RANGE[0] + WORKER, RANGE[1], WORKERS)
        if port in given:
            continue
        given.add(port)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port

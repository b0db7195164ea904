"""Addresses of the servers that the tests start."""

import random
import socket

# Below those that the system gives out by itself: what is free stays free while its server is stopped.
RANGE = 20_000, 32_000
# Not from the common source: two test processes may have seeded that alike.
chance = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens."""
    while True:
        port = chance.randrange(*RANGE)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port

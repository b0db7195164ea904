"""Addresses of the servers that the tests start."""

import random
import socket

# Below those that the system gives out by itself: what is free stays free while its server is stopped.
RANGE = 20_000, 32_000
# Not from the common source: two test processes may have seeded that alike.
chance = random.SystemRandom()
_taken: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens; this process's own, until it ends."""
    while True:
        port = chance.randrange(*RANGE)
        if _is_ours(port) and _is_free(port):
            return port


def _is_ours(port: int) -> bool:
    # Tests run in several processes, and take a port long before they listen there: a name that only one can have.
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0microblog-rt tests, port {port}")
    except OSError:
        name.close()
        return False
    _taken.append(name)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0

"""Waiting for a server process, without a fixed delay."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.server_process import DEADLINE, Server


def until(true: Callable[[], bool]) -> None:
    """Wait until ``condition()`` is true."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < DEADLINE, "not in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ready(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/readyz", timeout=DEADLINE).status_code == httpx.codes.OK
    except httpx.TransportError:  # one that had no tabs was about to end
        return False

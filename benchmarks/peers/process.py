"""Starts the process of a peer, waits until it accepts connections, and stops it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services import BOUND

from microblog_rt.files import CHECKOUT

STARTED_WITHIN = 30.0  # seconds
STOPPED_WITHIN = 10.0


@contextmanager
def running(command: Sequence[str], folder: Path, port: int, **environ: str) -> Iterator[int]:
    """Run a server that listens on ``port``; yields its process id. It ends with this process at the latest."""
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*BOUND, *command],
            cwd=CHECKOUT,
            env=os.environ | environ,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait(process, log, port)
        yield process.pid
        assert process.poll() is None, f"{command[0]} has ended: {log.read_text()}"
    finally:
        _stop(process)


def _wait(process: "subprocess.Popen[bytes]", log: Path, port: int) -> None:
    until = time.monotonic() + STARTED_WITHIN
    while True:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        if process.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"{process.args!r} does not listen: {log.read_text()}")
        time.sleep(0.05)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

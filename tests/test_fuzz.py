"""Mutated handshakes and frames; ``python -m tests.fuzz`` plays more of them."""

import socket
from math import ceil
from pathlib import Path

from tests import fuzz
from tests.server_process import DEADLINE, Server

STATUSES = {"101", "200", "303", "400", "401", "403", "404", "405", "501"}
CLOSES = {"close 1002", "close 1003", "close 1007", "close 1008", "close 1009", "no close"}


def test_mutations_leave_nothing_behind(tmp_path: Path, database_environ: dict[str, str]) -> None:
    """No traceback, an empty log, no connection or descriptor left, and a clean stop (I7, I9)."""
    count = 300 if database_environ else 1000
    report = fuzz.run(tmp_path, count, seed=1, environ=database_environ)
    assert report.failures() == []
    assert report.result.played == count
    assert report.result.probes == ceil(count / fuzz.PROBE_EVERY)
    # Otherwise most were refused at the handshake and little was tested.
    assert database_environ or (STATUSES | CLOSES) - report.result.answers.keys() == set()


def test_same_seed_makes_the_same_bytes() -> None:
    one, again, other = ([*fuzz.sequences(seed, range(50), 8000, "microblog_session=x")] for seed in (7, 7, 8))
    assert one == again
    assert all(mine != others for mine, others in zip(one, other, strict=True))


def test_lower_case_method_logs_no_traceback(server: Server) -> None:
    """``head`` is HEAD to one part of the server and was not to another."""
    for method in (b"HEAD", b"head", b"hEAD", b"get", b"connect"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as connection:
            connection.sendall(method + b" /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            received = b""
            while more := connection.recv(65536):
                received += more
        assert received.startswith(b"HTTP/1.1 "), method
        assert (b'{"status"' in received) == (method == b"get"), method
    assert server.stop() == 0
    assert server.logged() == ""


NOWHERE = [
    b"GET / HTTP/1.1\r\nHost: a..b\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: .\r\n",
    b"GET /notifications HTTP/1.1\r\nHost: a..b\r\n",
    b"GET / HTTP/1.1\r\nHost: " + b"a" * 64 + b"\r\n",
    b"GET ?since=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n",
]


def test_invalid_host_or_target_logs_no_traceback(server: Server) -> None:
    """Quart fails on them before any of our code runs."""
    for request in NOWHERE:
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as connection:
            connection.sendall(request + b"Connection: close\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 400", request
    assert server.stop() == 0
    assert server.logged() == ""

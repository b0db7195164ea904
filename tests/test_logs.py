"""JSON logs: one object per line, from every process."""

import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from microblog_rt import logs, metrics
from microblog_rt.logs import JsonLines
from tests.ports import free_port
from tests.server_process import COMMAND, DEADLINE, Server
from tests.services import Redis
from tests.waiting import until

TOKEN = "a-token-for-tests"
FIELDS = {"time", "level", "logger", "message", "process"}


def record(message: str, *values: object, **more: Any) -> dict[str, Any]:
    made = logging.LogRecord("some.name", logging.ERROR, __file__, 1, message, values, more.get("exc_info"))
    line = JsonLines().format(made)
    assert "\n" not in line
    return dict(json.loads(line))


def test_each_line_is_a_json_object() -> None:
    line = record('"%s"\nis %s', "é\u2028", 5)
    assert set(line) == FIELDS
    assert line["message"] == '"é\u2028"\nis 5'
    assert (line["level"], line["logger"], line["process"]) == ("ERROR", "some.name", os.getpid())
    moment = datetime.fromisoformat(line["time"])
    assert moment.utcoffset() == timedelta()
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)


def test_traceback_is_a_field() -> None:
    try:
        raise ValueError("broken on purpose")
    except ValueError:
        line = record("it failed", exc_info=sys.exc_info())
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: broken on purpose")


def test_supervisor_and_workers_write_json(tmp_path: Path) -> None:
    with Redis(tmp_path) as redis:
        environ = {"MICROBLOG_BUS_URL": redis.url, "MICROBLOG_LOG": "json", "MICROBLOG_METRICS_TOKEN": TOKEN}
        with Server(tmp_path, "--workers", "2", environ=environ) as server:
            before = server.workers()
            os.kill(min(before), signal.SIGKILL)
            until(lambda: "starting another" in server.logged())
            redis.stop()
            until(lambda: f'"process": {max(before)}' in server.logged())
            supervisor = server.process
    lines = [json.loads(line) for line in server.logged().splitlines()]
    assert all(set(line) >= FIELDS for line in lines)
    assert supervisor is not None
    assert {max(before), supervisor.pid} <= {line["process"] for line in lines}
    assert TOKEN not in server.logged()


HYPERCORNS = """
from microblog_rt import logs, server

logs.begin("json", several=False)
config = server.configuration()
server._use_our_log(config)
config.log.error_logger.info("quiet")
config.log.error_logger.error("loud")
"""


def test_hypercorn_logs_in_the_same_format() -> None:
    """It would otherwise add its own handler."""
    output = subprocess.run([sys.executable, "-c", HYPERCORNS], capture_output=True, text=True, check=True).stderr
    (line,) = [json.loads(each) for each in output.splitlines()]
    assert (line["message"], line["logger"]) == ("loud", "hypercorn.error")


@pytest.mark.parametrize("other_users", [False, True])
def test_full_pipe_loses_lines_and_blocks_nothing(other_users: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    if other_users:  # a pipe of another user cannot be opened again
        monkeypatch.setattr(os, "open", refuse)
    reading, writing = os.pipe()
    handler = logs.NonBlockingHandler(writing)
    handler.setFormatter(logging.Formatter("%(message)s"))
    lost = metrics.LOG_LINES_LOST.value(metrics._own)
    for number in range(2000):
        handler.handle(logging.LogRecord("name", logging.INFO, "", 0, f"{number:04} {'x' * 995}", (), None))
    assert os.get_blocking(writing), "other programs share the pipe"
    dropped = int(metrics.LOG_LINES_LOST.value(metrics._own) - lost)
    assert 1500 < dropped < 2000
    received = os.read(reading, 2**20)
    handler.handle(logging.LogRecord("name", logging.INFO, "", 0, "last", (), None))
    received += os.read(reading, 2**20)
    lines = received.decode().splitlines()
    assert [line[:4] for line in lines[:-2]] == [f"{number:04}" for number in range(2000 - dropped)]
    assert all(len(line) == 1000 for line in lines[:-2])
    assert lines[-2:] == [f"{dropped} log lines lost", "last"]
    os.close(reading)
    handler.handle(logging.LogRecord("name", logging.INFO, "", 0, "closed", (), None))
    handler.close()
    os.close(writing)


def test_full_socket_loses_lines() -> None:
    """systemd's journal is a socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        handler = logs.NonBlockingHandler(ours.fileno())
        lost = metrics.LOG_LINES_LOST.value(metrics._own)
        for _ in range(2000):
            handler.handle(logging.LogRecord("name", logging.INFO, "", 0, "x" * 1000, (), None))
        assert metrics.LOG_LINES_LOST.value(metrics._own) > lost
        assert ours.getblocking()
        handler.close()


def test_file_is_appended_to(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    with (tmp_path / "log").open("a") as file:
        logs.NonBlockingHandler(file.fileno()).handle(logging.LogRecord("name", logging.INFO, "", 0, "x", (), None))
    assert (tmp_path / "log").read_text() == "before\nx\n"


def test_server_whose_log_is_not_read_serves_and_stops(tmp_path: Path) -> None:
    """Standard error is a pipe that is full from the beginning."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [*COMMAND, "serve", "--bind", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=writing, text=True) as process:
        assert process.stdout is not None
        assert "Serving" in process.stdout.readline()
        for _ in range(3):
            answer = httpx.get(f"{url}/healthz", headers={"X-Forwarded-For": "192.0.2.1"}, timeout=DEADLINE)
            assert answer.status_code == 200
        numbers = httpx.get(f"{url}/metrics", timeout=DEADLINE).text
        process.terminate()
        assert process.wait(DEADLINE) == 0
    assert re.search(r"^microblog_log_lines_lost_total [1-9]", numbers, re.MULTILINE)
    os.close(reading)
    os.close(writing)


def test_urls_of_requests_are_not_logged() -> None:
    """That of the webhooks may contain a secret."""
    script = (
        "import logging; from microblog_rt import logs; logs.begin('text', several=False);"
        "logging.getLogger('httpx').info('HTTP Request: POST https://secret'); logging.getLogger('x').info('shown')"
    )
    logged = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr
    assert "shown" in logged
    assert "secret" not in logged

"""JSON logs: one object per line, from every process."""

import json
import logging
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from microblog_rt.logs import JsonLines
from tests.server_process import Server
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

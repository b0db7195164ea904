"""The client's state machine: the cases that it shares with the browser's, and its documentation."""

import doctest
import importlib
import json
import pkgutil
from typing import Any

import pytest

from microblog_rt import client
from microblog_rt.client.api import Retries
from microblog_rt.client.errors import Forbidden, KeyReused, Rejected, SignedOut, Unavailable, rejected
from microblog_rt.client.event_stream import EventStream
from microblog_rt.client.events import Response, notification, parse
from microblog_rt.client.responses import close_reason, refusal_reason
from tests.client_cases import Run, load

CASES = load()
MODULES = [name for _, name, _ in pkgutil.iter_modules(client.__path__)]
NEEDS_A_SERVER = {"sync"}  # tests/test_client.py


@pytest.mark.parametrize("case", CASES, ids=[each["name"] for each in CASES])
def test_client_performs_the_actions_of_each_case(case: dict[str, Any]) -> None:
    run = Run(case)
    for number, step in enumerate(case["steps"]):
        expected = {"expect": step["expect"], "state": step["state"]}
        assert run.perform(step) == expected, f"step {number}: {json.dumps(step)}"


@pytest.mark.parametrize("case", load("websocket_frames"), ids=lambda case: case["frame"])
def test_frame_is_received_or_ignored(case: dict[str, Any]) -> None:
    expected = case["notifications"]
    assert parse(case["frame"]) == (expected and [notification(each) for each in expected])


@pytest.mark.parametrize("case", load("close_codes"), ids=lambda case: f"{case['code']} {case['reason']}")
def test_close_code_is_a_status(case: dict[str, Any]) -> None:
    reason = close_reason(case["code"], case["reason"])
    end = {"status": reason.status, "wait": reason.wait, "restarts": reason.restarts}
    assert end == {"wait": 0, "restarts": False} | case["end"]


@pytest.mark.parametrize("case", load("refusals"), ids=lambda case: f"{case['status']} {case['code']}")
def test_only_the_application_refuses(case: dict[str, Any]) -> None:
    body = json.dumps({"code": case["code"]} if case["code"] else {})
    response = Response(1, case["status"], {"content-type": case["content_type"]}, body)
    assert refusal_reason(response).status == case["reported"]


@pytest.mark.parametrize("case", load("event_streams"), ids=lambda case: case["case"])
@pytest.mark.parametrize("size", [None, 7, 1])
def test_event_stream_is_parsed_in_any_parts(case: dict[str, Any], size: int | None) -> None:
    text, stream = case["stream"], EventStream()
    size = size or len(text)
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    received = [each for part in parts for each in stream.push(part)]
    assert received == [notification(each) for each in case["notifications"]]
    assert stream.restarts == case["restarts"]


def test_cases_reach_every_state_and_transport() -> None:
    steps = [step for case in CASES for step in case["steps"]]
    states = {step["state"] for step in steps}
    assert states == {"idle", "searching", "fallback", "connected", "probing", "asking", "stopped"}
    opened = {action["open"] for step in steps for action in step["expect"] if "open" in action}
    assert opened == {"websocket", "sse", "longpoll", "poll"}
    assert len({case["name"] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name", sorted(set(MODULES) - NEEDS_A_SERVER))
def test_examples_in_docstrings_are_right(name: str) -> None:
    module = importlib.import_module(f"microblog_rt.client.{name}")
    assert doctest.testmod(module).failed == 0


def test_some_docstrings_have_examples() -> None:
    modules = [importlib.import_module(f"microblog_rt.client.{name}") for name in MODULES]
    found = [each for module in modules for each in doctest.DocTestFinder().find(module) if each.examples]
    assert len(found) >= 8


def test_request_is_not_repeated_before_retry_after() -> None:
    retries = Retries(timeout=60, now=100, random=lambda: 0.0)
    assert retries.pause(now=101, retry_after=30) == 30
    assert retries.pause(now=131, retry_after=29) == 29
    assert retries.pause(now=160, retry_after=1) is None


def test_each_refusal_has_its_error() -> None:
    assert type(rejected(401, "signed_out")) is SignedOut
    assert type(rejected(403, "scope_missing")) is Forbidden
    assert type(rejected(422, "idempotency_key_reused")) is KeyReused
    assert type(rejected(503, "draining", retry_after=2)) is Unavailable
    assert type(rejected(401)) is Rejected, "a proxy's"
    assert type(rejected(500)) is Rejected

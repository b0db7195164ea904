"""``docs/asyncapi.yaml`` against the code and a real server."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import yaml

from microblog_rt import files, metrics
from microblog_rt.errors import BadRequest
from microblog_rt.push import frames
from microblog_rt.web import admission, formats, problems
from microblog_rt.web import socket as sockets
from tests.event_streams import streaming
from tests.server_process import Person, Server
from tests.sockets import frame, socket_to

DOCUMENT: dict[str, Any] = yaml.safe_load((files.CHECKOUT / "docs" / "asyncapi.yaml").read_text())
CHANNELS, COMPONENTS = DOCUMENT["channels"], DOCUMENT["components"]


def resolved(reference: str) -> Any:
    """The part of the document that a reference names; raises KeyError."""
    found: Any = DOCUMENT
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from [value] if key == "$ref" else references(value)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


def check(message: str, payload: Any) -> None:
    """Raise unless ``payload`` fits the schema of that message."""
    schema = {**COMPONENTS["messages"][message]["payload"], "components": COMPONENTS}
    jsonschema_rs.validate(schema, payload)


def test_references_resolve() -> None:
    found = list(references(DOCUMENT))
    assert found
    for each in found:
        assert resolved(each)


def test_every_channel_is_at_the_path() -> None:
    assert {each["address"] for each in CHANNELS.values()} == {admission.PATH}
    used = {each["channel"]["$ref"] for each in DOCUMENT["operations"].values()}
    assert used == {f"#/channels/{name}" for name in CHANNELS}


def test_every_channel_describes_both_credentials() -> None:
    socket = CHANNELS["webSocket"]["bindings"]["ws"]["headers"]["properties"]
    streams = [each["x-request-headers"] for name, each in CHANNELS.items() if name != "webSocket"]
    assert [{"Authorization", "Cookie"} <= set(each) for each in (socket, *streams)] == [True] * 3


def test_media_types_are_those_of_the_formats() -> None:
    types = {COMPONENTS["messages"][name]["contentType"] for name in ("event", "line")}
    assert types == {each.media_type for each in formats.FORMATS}


def test_query_lists_every_parameter() -> None:
    parameters = COMPONENTS["schemas"]["Query"]["properties"]
    parsed: set[str] = set()

    class Recorder(dict[str, list[str]]):
        def get(self, name: str, default: Any = None) -> Any:
            parsed.add(name)
            return default

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admission, "_params", lambda _: Recorder())
        admission.parse(b"", [])
    assert parsed == set(parameters)
    limit = parameters["name"]["maxItems"]
    admission.parse(b"&".join([b"name=x"] * limit), [])
    with pytest.raises(BadRequest):
        admission.parse(b"&".join([b"name=x"] * (limit + 1)), [])


def test_close_codes_are_those_of_the_code() -> None:
    documented = set(CHANNELS["webSocket"]["x-close-codes"])
    errors = ("signed_out", "forbidden", "too_many", "unexpected", "unavailable", "draining")
    own = {problems.ANSWERS[each].close_code for each in errors}
    assert documented == own | {sockets.NOT_ACKNOWLEDGED, frames.UNSUPPORTED, frames.POLICY, frames.TOO_BIG}
    assert documented <= set(metrics.CLOSES)
    table = (files.CHECKOUT / "docs" / "protocol.md").read_text()
    for code in documented:
        assert re.search(rf"^\|[^|]*\b{code}\b", table, re.MULTILINE), code


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def bob(server: Server) -> Iterator[Person]:
    alice, bob = server.person("alice"), server.person("bob")
    alice.send("bob", "hello")
    yield bob
    alice.close()
    bob.close()


async def test_frames_and_headers_of_the_websocket(bob: Person) -> None:
    async with socket_to(bob) as tab:
        assert tab.response is not None
        for name in CHANNELS["webSocket"]["x-response-headers"]:
            assert name in tab.response.headers
        received = await frame(tab)
        assert received
        check("notifications", received)
        check("acknowledgement", received[-1]["timestamp"])
        await tab.send(json.dumps(received[-1]["timestamp"]))


@pytest.mark.parametrize(("channel", "message"), [("eventStream", "event"), ("jsonLines", "line")])
async def test_messages_and_headers_of_streams(bob: Person, channel: str, message: str) -> None:
    async with streaming(bob, accept=COMPONENTS["messages"][message]["contentType"]) as stream:
        for name in CHANNELS[channel]["x-response-headers"]:
            assert name in stream.headers
        check(message, await stream.change())
    has_id = "Last-Event-ID" in CHANNELS[channel]["x-request-headers"]
    answer = await asyncio.to_thread(
        bob.client.head, admission.PATH, headers={"Accept": stream.headers["Content-Type"], "Last-Event-ID": "x"}
    )
    assert answer.status_code == (400 if has_id else 200)


def test_schema_refuses_other_payloads() -> None:
    payloads: list[Any] = [[{"name": "n", "data": 1}], [{"name": 1, "data": 1, "timestamp": 1}], {}]
    for payload in payloads:
        with pytest.raises(jsonschema_rs.ValidationError):
            check("notifications", payload)

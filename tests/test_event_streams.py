"""Streamed responses of the push edge, with a stub feed: bytes, deadlines and how they end.

See also: ``test_http_streams.py``, with real servers; ``web/test_http_stream.py``, the ASGI application.
"""

import asyncio
import contextlib
import json
import re
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from microblog_rt import metrics
from microblog_rt.errors import Forbidden, TooMany
from microblog_rt.push.event_stream import EventStream
from microblog_rt.push.tab import Tab
from microblog_rt.timeouts import Timeouts
from microblog_rt.web import formats
from tests.asgi_server import HANDSHAKE, Application, Expiring, RawClient, Serving, raw_client, serving, warnings_logged
from tests.raw_responses import response, rest, until
from tests.server_process import DEADLINE

RESET = struct.pack("ii", 1, 0)


def request(accept: str, method: str = "GET") -> bytes:
    return f"{method} /notifications HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode()


SSE, NDJSON = request("text/event-stream"), request("application/x-ndjson")
EMPTY = {SSE: rb":\nretry: [12]\d{3}\n", NDJSON: rb"\n"}
END = b"0\r\n\r\n"

both = pytest.mark.parametrize("sent", [SSE, NDJSON])


def open_streams() -> list[float]:
    """The open streams of each kind, according to the metrics."""
    return [each.value(metrics._own) for each in metrics.STREAMS.values()]


@pytest.fixture
async def it(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Serving]:
    """An edge with a stub feed. Nothing may be logged, and no stream may remain in the gauges."""
    async with serving(Application()) as it:
        yield it
    assert warnings_logged(caplog.records) == []
    assert open_streams() == [0, 0]


@pytest.fixture
async def client(it: Serving) -> AsyncIterator[RawClient]:
    async with raw_client(it.port) as client:
        yield client


async def chunk(client: RawClient) -> bytes:
    """The next chunk of a body; empty for the last."""
    async with asyncio.timeout(DEADLINE):
        length = int(await client.reader.readuntil(b"\r\n"), 16)
        data = await client.reader.readexactly(length + 2)
        assert data[length:] == b"\r\n"
        return data[:length]


async def opened(client: RawClient, sent: bytes) -> bytes:
    """Open a stream; its head."""
    await client.send(sent)
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert re.fullmatch(EMPTY[sent], await chunk(client))
    return head


def data_in(found: bytes) -> object:
    """The data of the one notification in a chunk of either format."""
    text = found.decode()
    if text.startswith("id: "):
        matched = re.fullmatch(r"id: \S+\ndata: (.*)\n\n", text)
        assert matched, text
        text = matched[1]
    return json.loads(text)["data"]


@both
async def test_response_is_chunked_and_announces_its_close(client: RawClient, sent: bytes) -> None:
    head = await opened(client, sent)
    for line in (b"transfer-encoding: chunked", b"connection: close", b"heartbeat: 20", b"x-accel-buffering: no"):
        assert b"\r\n" + line + b"\r\n" in head
    assert b"content-length" not in head


@both
async def test_change_is_one_chunk(it: Serving, client: RawClient, sent: bytes) -> None:
    await opened(client, sent)
    it.feed.send('"a\\nb"')
    assert data_in(await chunk(client)) == "a\nb"
    it.feed.send("2")
    assert data_in(await chunk(client)) == 2


async def test_change_is_encoded_once_for_each_format(it: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    for each in (formats.ServerSentEvents, formats.JsonLines):

        def encode(self: formats.Format, found: list[object], real: object = each.encode) -> bytes:
            encoded.extend([self.transport] * bool(found))
            return real(self, found)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(each, "encode", encode)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_client(it.port)) for _ in range(6)]
        for number, each_client in enumerate(clients):
            await opened(each_client, (SSE, NDJSON)[number % 2])
        it.feed.send("1")
        assert [data_in(await chunk(each_client)) for each_client in clients] == [1] * 6
        assert sorted(encoded) == ["ndjson", "sse"]


@both
async def test_heartbeats_are_lines_without_an_event(sent: bytes) -> None:
    async with serving(Application(), heartbeat=0.05) as it, raw_client(it.port) as client:
        await opened(client, sent)
        for _ in range(3):
            assert await chunk(client) == {SSE: b":\n", NDJSON: b"\n"}[sent]


async def test_drained_event_stream_is_told_when_to_return(it: Serving, client: RawClient) -> None:
    await opened(client, SSE)
    (stream,) = it.feed.streams
    stream.close(3.5)
    stream.close(1.0)
    assert await chunk(client) == b"retry: 3500\n"
    assert await chunk(client) == b""
    assert await rest(client) == b""


async def test_drained_json_lines_just_end(it: Serving, client: RawClient) -> None:
    await opened(client, NDJSON)
    (stream,) = it.feed.streams
    stream.close(3.5)
    assert await rest(client) == END


@both
async def test_stream_ends_when_its_session_is_refused(it: Serving, client: RawClient, sent: bytes) -> None:
    await opened(client, sent)
    (stream,) = it.feed.streams
    stream.end(Forbidden())
    assert await rest(client) == END
    await it.idle()


@both
async def test_stream_ends_after_an_unexpected_error(
    it: Serving, client: RawClient, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await opened(client, sent)
    (stream,) = it.feed.streams
    stream.end(RuntimeError("broken on purpose"))
    assert await rest(client) == END
    assert "broken on purpose" in caplog.text
    caplog.clear()


@both
async def test_refused_read_refuses_the_request(it: Serving, client: RawClient, sent: bytes) -> None:
    """The connection can be used again."""
    it.feed.held = []
    for _ in range(2):
        await client.send(sent)
        await until(lambda: it.feed.held != [])
        assert it.feed.held
        stream = it.feed.held.pop()
        stream.begin()
        stream.answer(None)
        answer = await response(client)
        assert (answer.status, json.loads(answer.body)["code"]) == (401, "signed_out")
        assert "connection" not in answer.headers


@both
async def test_draining_edge_refuses_streams(it: Serving, client: RawClient, sent: bytes) -> None:
    it.feed.hub.stop_accepting(lambda: 3.0)
    await client.send(sent)
    answer = await response(client)
    assert (answer.status, answer.headers["retry-after"]) == (503, "3")


@both
async def test_stream_over_a_limit_is_refused(
    it: Serving, client: RawClient, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise TooMany(5, "too_many_tabs")

    monkeypatch.setattr(it.edge.admission.tabs, "open", full)
    await client.send(sent)
    answer = await response(client)
    assert (answer.status, answer.headers["retry-after"]) == (429, "5")


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_head_ends_after_the_head(it: Serving, client: RawClient, accept: str) -> None:
    await client.send(request(accept, "HEAD"))
    assert f"content-type: {accept}\r\n".encode() in await client.head()
    assert await rest(client) == b""
    await it.idle()


@both
@pytest.mark.parametrize("lasts", [0.1, 0.5])
async def test_stream_ends_when_its_session_expires(sent: bytes, lasts: float) -> None:
    """Before the first heartbeat, or between two."""
    async with serving(Application(), heartbeat=0.4) as it, raw_client(it.port) as client:
        expiring = Expiring(it, lasts)
        await opened(client, sent)
        beats = [await chunk(client) for _ in range(int(lasts / 0.4))]
        assert await rest(client) == END, "no later than the session"
        assert (len(beats), expiring.asked) == (int(lasts / 0.4), 2)
    assert open_streams() == [0, 0]


@both
async def test_half_closed_client_is_forgotten(it: Serving, client: RawClient, sent: bytes) -> None:
    await opened(client, sent)
    client.writer.write_eof()
    await it.idle()
    assert await rest(client) == b""


@both
async def test_client_that_half_closes_before_the_head_is_closed(it: Serving, client: RawClient, sent: bytes) -> None:
    it.feed.held = []
    await client.send(sent)
    await until(lambda: it.feed.held != [])
    client.writer.write_eof()
    (connection,) = it.edge.connections
    await until(lambda: connection.ended)
    assert it.feed.held is not None
    it.feed.answer(it.feed.held[0])
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    await rest(client)
    await it.idle()


@both
async def test_client_that_disconnects_before_its_first_read_is_forgotten(sent: bytes) -> None:
    """The read may still end, and a drain may still close what it has found before."""
    async with serving(Application(), Timeouts(half_closed=0.05)) as it:
        it.feed.held = []
        async with raw_client(it.port) as client:
            await client.send(sent)
            await until(lambda: it.feed.held != [])
        await it.idle()
        (stream,) = it.feed.held
        it.feed.answer(stream)
        stream.fail(RuntimeError("a bug"))
        stream.close(1.0)
    assert open_streams() == [0, 0]


@both
async def test_stream_of_a_client_that_has_just_reset_can_be_closed(it: Serving, sent: bytes) -> None:
    """Before the reset is read; an error would end a drain."""
    with socket.socket() as raw:
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", it.port))
        await loop.sock_sendall(raw, sent)
        await until(lambda: any(each.started for each in it.feed.streams))
        (stream,) = it.feed.streams
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    stream.close(1.0)
    await it.idle()


@both
async def test_stalled_reader_is_cut_and_others_are_served(sent: bytes) -> None:
    """At the deadline for sends; until then it holds a position, and no queue."""
    async with (
        serving(Application(), Timeouts(send=0.3)) as it,
        raw_client(it.port, receive_buffer=4096) as stalled,
        raw_client(it.port) as well,
    ):
        await opened(stalled, sent)
        (stream,) = it.feed.streams
        assert isinstance(stream, EventStream)
        await opened(well, sent)
        stalled.reader._transport.pause_reading()  # type: ignore[attr-defined]
        number = 0
        async with asyncio.timeout(DEADLINE):
            while len(it.feed.streams) > 1:
                number += 1
                it.feed.send(json.dumps(f"{number} {'x' * 3000}"))
                assert str(data_in(await chunk(well))).startswith(f"{number} ")
                assert len(stream._pending or {}) <= 1
                assert stream.transport.get_write_buffer_size() < 4000, "no more than one change"
        assert stream not in it.feed.streams
        it.feed.send("0")
        assert data_in(await chunk(well)) == 0
    assert open_streams() == [0, 0]


@both
async def test_slow_reader_gets_the_newest_state(it: Serving, sent: bytes) -> None:
    async with raw_client(it.port, receive_buffer=4096) as slow:
        await opened(slow, sent)
        slow.reader._transport.pause_reading()  # type: ignore[attr-defined]
        count = 200
        for number in range(count):
            it.feed.send(json.dumps(f"{number} {'x' * 3000}"))
        slow.reader._transport.resume_reading()  # type: ignore[attr-defined]
        received = [-1]
        async with asyncio.timeout(DEADLINE):
            while received[-1] != count - 1:
                received.append(int(str(data_in(await chunk(slow))).partition(" ")[0]))
        assert received == sorted(set(received))
        assert len(received) < count / 2, "the states in between were replaced"


@both
async def test_what_a_client_sends_after_its_request_is_ignored(it: Serving, client: RawClient, sent: bytes) -> None:
    await client.send(sent + sent)
    await client.head()
    await chunk(client)
    for _ in range(64):
        await client.send(b"x" * 16384)
    it.feed.send("1")
    assert data_in(await chunk(client)) == 1
    assert len(it.feed.streams) == 1


async def test_stream_after_polls_on_one_connection(it: Serving, client: RawClient) -> None:
    poll = b"GET /notifications HTTP/1.1\r\nHost: x\r\n\r\n"
    await client.send(poll + poll + SSE)
    for _ in range(2):
        assert (await response(client)).body == b"[]"
    assert b"text/event-stream" in await client.head()


async def test_event_stream_answered_from_memory(it: Serving, client: RawClient) -> None:
    it.feed.knows = True
    await opened(client, SSE)
    it.feed.send("1")
    assert data_in(await chunk(client)) == 1


@both
async def test_streams_have_no_dictionary_and_are_small(it: Serving, client: RawClient, sent: bytes) -> None:
    """One object with slots, no larger than a tab."""
    await opened(client, sent)
    (stream,) = it.feed.streams
    async with raw_client(it.port) as other:
        await other.send(HANDSHAKE + b"\r\n")
        await other.head()
        (tab,) = it.feed.streams - {stream}
        assert isinstance(stream, EventStream)
        assert isinstance(tab, Tab)
        assert not hasattr(stream, "__dict__")
        assert stream.__sizeof__() <= tab.__sizeof__()


@both
async def test_streams_are_counted(it: Serving, sent: bytes) -> None:
    kind = {SSE: "sse", NDJSON: "ndjson"}[sent]
    before = metrics.DELIVERIES[kind].value(metrics._own)
    async with raw_client(it.port) as client:
        await opened(client, sent)
        assert metrics.STREAMS[kind].value(metrics._own) == 1
        assert sum(open_streams()) == 1
        it.feed.send("1")
        await chunk(client)
        assert metrics.DELIVERIES[kind].value(metrics._own) - before == 1
    await it.idle()


ACCEPTED = [
    ("", None),
    ("*/*", None),
    ("text/*", None),
    ("application/json", None),
    ("text/html,application/xhtml+xml,*/*;q=0.8", None),
    ("text/event-stream", formats.SSE),
    ("TEXT/Event-Stream", formats.SSE),
    ("text/event-stream; charset=utf-8", formats.SSE),
    ("*/*, text/event-stream;q=0.1", formats.SSE),
    ("text/event-stream;q=0", None),
    ("text/event-stream;q=0.000, */*", None),
    ("text/event-stream;q=2", None),
    ("text/event-stream;q=nan", None),
    ("text/event-streams", None),
    ("application/x-ndjson", formats.NDJSON),
    ("application/x-ndjson, text/event-stream", formats.NDJSON),
    ("application/x-ndjson;q=0.9, text/event-stream", formats.SSE),
    ("application/json, text/event-stream", None),
    ("application/json;q=0.5, text/event-stream", formats.SSE),
    (",;,text/event-stream,", formats.SSE),
]


@pytest.mark.parametrize(("accept", "form"), ACCEPTED)
def test_accept_selects_the_format(accept: str, form: formats.Format | None) -> None:
    assert formats.requested([(b"accept", accept.encode())]) is form


def test_accept_may_be_repeated_or_missing() -> None:
    assert formats.requested([]) is None
    assert formats.requested([(b"accept", b"text/html"), (b"accept", b"text/event-stream")]) is formats.SSE

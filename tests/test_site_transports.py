"""Signed tokens of another site over HTTP and WebSockets: on the push edge, and under another ASGI server."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests import site_tokens
from tests.http_client import DEADLINE, websocket
from tests.server_process import AsgiServer, Server
from tests.site_tokens import AUDIENCE, PUBLISH, key_file, signed
from tests.timing import awake

SERVERS = {"edge": Server, "asgi": AsgiServer}
ALGORITHM = "RS256"
Ask = Callable[[httpx.AsyncClient, str], Awaitable[tuple[int, str]]]


@pytest.fixture(scope="module", params=SERVERS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests; its log must be empty at the end."""
    folder = tmp_path_factory.mktemp("server")
    environ = {
        "MICROBLOG_JWT_KEY": key_file(folder),
        "MICROBLOG_JWT_AUDIENCE": AUDIENCE,
        "MICROBLOG_TABS_PER_USER": "",
        "MICROBLOG_HEARTBEAT": "0.5",
    }
    with SERVERS[request.param](folder, environ=environ) as server:
        yield server
    assert server.warnings_logged() == []


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def token(name: str = "visitor", **claims: object) -> str:
    return signed(name, ALGORITHM, **claims)


async def poll(client: httpx.AsyncClient, text: str) -> tuple[int, str]:
    return _answer(await client.get("/notifications", headers=bearer(text)))


async def long_poll(client: httpx.AsyncClient, text: str) -> tuple[int, str]:
    return _answer(await client.get("/notifications?wait=0.05", headers=bearer(text)))


async def event_stream(client: httpx.AsyncClient, text: str) -> tuple[int, str]:
    accept = {"Accept": "text/event-stream"}
    async with client.stream("GET", "/notifications", headers=bearer(text) | accept) as answer:
        if answer.is_success:
            return 200, ""
        await answer.aread()
        return _answer(answer)


async def tab(client: httpx.AsyncClient, text: str) -> tuple[int, str]:
    try:
        async with open_tab(str(client.base_url), text) as opened:
            await opened.recv()
            return 200, ""
    except InvalidStatus as refusal:
        return refusal.response.status_code, json.loads(refusal.response.body or b"{}")["code"]


async def api(client: httpx.AsyncClient, text: str) -> tuple[int, str]:
    return _answer(await client.get("/api/v1/tokens", headers=bearer(text)))


def _answer(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, "" if answer.is_success else answer.json()["code"]


def open_tab(url: str, text: str) -> connect:
    return websocket(url.rstrip("/"), "", headers=bearer(text), origin=None)


async def close_code(opened: ClientConnection) -> int | None:
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                await opened.recv()
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else None


@pytest.mark.parametrize("ask", [poll, long_poll, event_stream, tab, api])
async def test_no_invalid_token_is_accepted(shared: Server, ask: Ask) -> None:
    async with httpx.AsyncClient(base_url=shared.url, timeout=DEADLINE) as client:
        assert await ask(client, token(f"by_{ask.__name__}")) == (200, "")  # the first request, and the precondition
        wrong = {what: await ask(client, text) for what, text in site_tokens.refused(ALGORITHM)}
        assert {what: answer for what, answer in wrong.items() if answer != (401, "signed_out")} == {}
        assert await ask(client, token("alice")) == (401, "subject_taken")
        assert await ask(client, token("no name")) == (401, "subject_invalid")


async def test_parallel_first_requests_are_all_served(shared: Server) -> None:
    async with httpx.AsyncClient(base_url=shared.url, timeout=DEADLINE) as client:
        asks: list[Ask] = [poll, long_poll, event_stream, tab, api]
        answers = await asyncio.gather(*(asks[n % 5](client, token("crowd", jti=str(n))) for n in range(50)))
        assert set(answers) == {(200, "")}


async def test_published_notification_arrives_and_revocation_ends_everything(shared: Server) -> None:
    service, old = bearer(token("service", scope=PUBLISH)), token("reader")
    async with httpx.AsyncClient(base_url=shared.url, timeout=DEADLINE) as client, open_tab(shared.url, old) as opened:
        assert await opened.recv() == "[]"
        path = "/api/v1/users/reader"
        put = {"json": {"data": 3}}
        refused = await client.put(f"{path}/notifications/orders", headers=bearer(old), **put)  # type: ignore[arg-type]
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert (await client.delete(f"{path}/sessions", headers=bearer(old))).status_code == 403
        published = await client.put(f"{path}/notifications/orders", headers=service, **put)  # type: ignore[arg-type]
        assert published.status_code == 200, published.text
        while (frame := json.loads(await opened.recv())) == []:
            pass
        assert [(each["name"], each["data"]) for each in frame] == [("orders", 3)]
        accept = {"Accept": "application/x-ndjson"}
        stream = asyncio.create_task(client.get("/notifications", headers=bearer(old) | accept))
        since = repr(frame[0]["timestamp"])
        held = asyncio.create_task(client.get(f"/notifications?wait=20&since={since}", headers=bearer(old)))
        while not await asyncio.to_thread(shared.holds):
            pass
        async with awake() as seconds:
            ended = await client.delete(f"{path}/sessions", headers=service)
            assert (ended.status_code, ended.json()) == (200, {"username": "reader"})
            code, answer, lines = await asyncio.gather(close_code(opened), held, stream)
            assert seconds() < 1
        assert (code, answer.status_code, lines.status_code) == (4401, 401, 200)
        for ask in (poll, long_poll, event_stream, tab, api):
            assert await ask(client, old) == (401, "signed_out")
            assert await ask(client, token("reader", iat=time.time() + 1)) == (200, "")


async def test_repeated_batch_with_two_spellings_of_a_new_user(shared: Server) -> None:
    service = bearer(token("service", scope=PUBLISH)) | {"Idempotency-Key": "spellings"}
    items = [{"user": name, "key": "orders", "data": 1} for name in ("carolx", "Carolx")]
    async with httpx.AsyncClient(base_url=shared.url, timeout=DEADLINE) as client:
        first, again = [
            await client.post("/api/v1/notifications", json={"items": items}, headers=service) for _ in "12"
        ]
    assert [each["status"] for each in first.json()["results"]] == [200, 200]
    assert again.json() == first.json()


async def test_expiry_closes_a_tab_unless_a_fresh_token_was_sent(shared: Server) -> None:
    expires = time.time() + 1.2
    texts = [token("expiring", exp=expires, jti=str(n)) for n in range(2)]
    async with open_tab(shared.url, texts[0]) as ends, open_tab(shared.url, texts[1]) as goes_on:
        await asyncio.gather(ends.recv(), goes_on.recv())
        await goes_on.send(json.dumps(token("expiring", jti="fresh")))
        assert await close_code(ends) == 4401
        assert time.time() >= expires
        for _ in range(2):  # heartbeats after the expiry
            assert await goes_on.recv() == "[]"
        await goes_on.send("1")  # an acknowledgement is still one
        await goes_on.send(json.dumps(token("expiring", exp=time.time() + 0.3)))
        assert await close_code(goes_on) == 4401


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (lambda: json.dumps(token("another")), 4403),
        (lambda: json.dumps(token("frames", exp=1)), 4401),
        (lambda: json.dumps("mbrt_1_x"), 4401),
        (lambda: json.dumps(token("frames", scope="messages:read")), 4403),
        (lambda: '"', 1003),
        (lambda: '"a" 1', 1003),
        (lambda: json.dumps({"token": token("frames")}), 1003),
    ],
)
async def test_frame_that_is_no_valid_token_of_the_user_closes(
    shared: Server, frame: Callable[[], str], code: int
) -> None:
    async with open_tab(shared.url, token("frames")) as opened:
        await opened.recv()
        await opened.send(frame())
        assert await close_code(opened) == code

"""Sends that the push edge answers without Quart: as Quart would, and only where that is certain."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from sqlalchemy import select, update
from werkzeug.datastructures import Headers

from microblog_rt import metrics
from microblog_rt.errors import Unavailable
from microblog_rt.models import Base, Session, User
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import sql_time
from tests.asgi_server import raw_client
from tests.edge_site import Site, served
from tests.raw_responses import Response, response, rest

HOST = "Host: 127.0.0.1"
ORIGIN = "Origin: http://127.0.0.1"
FORM = "Content-Type: application/x-www-form-urlencoded"
NAVIGATE = ("Sec-Fetch-Mode: navigate", "Accept: text/html")
TOKEN = re.compile(rb'name="csrf_token"[^>]* value="([^"]+)"')
VARYING = ("date", "content-length", "connection")


class Person(NamedTuple):
    """A user with the cookies and the CSRF token of a browser."""

    user: User
    cookie: str
    token: str


async def person(site: Site) -> Person:
    user = await site.user()
    cookie = await site.cookie(user)
    page = await by_quart(site, "/send_message/user1", [HOST, f"Cookie: {cookie}"], b"", method="GET")
    token = TOKEN.search(page.body)
    assert token, page
    return Person(user, f"{cookie}; {page.headers['set-cookie'].partition(';')[0]}", token[1].decode())


async def by_quart(site: Site, target: str, fields: list[str], body: bytes, method: str = "POST") -> Response:
    """The application's answer without a server."""
    headers = Headers([(name, value) for name, _, value in (field.partition(": ") for field in fields)])
    client: Any = site.app.test_client(use_cookies=False)
    answer = await client.open(target, method=method, headers=headers, data=body)
    return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, await answer.get_data())


def post(target: str, fields: list[str], body: bytes) -> bytes:
    return "\r\n".join([f"POST {target} HTTP/1.1", *fields, "", ""]).encode() + body


@pytest.fixture
async def site(settings: Settings) -> AsyncIterator[Site]:
    async with served(settings) as site:
        await site.user()  # user1, the recipient
        yield site


class Case(NamedTuple):
    """A request that differs from a usual one, and whether it is answered without Quart."""

    direct: bool
    status: int = 303
    target: str = "/send_message/user1"
    form: dict[str, str | None] = {}
    fields: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    body: bytes = b""
    more: bytes = b""


CASES = {
    "a program": Case(True),
    "a browser": Case(True, fields=NAVIGATE),
    "a browser in Spanish": Case(True, fields=(*NAVIGATE, "Accept-Language: es-MX, en;q=0.5")),
    "JSON preferred": Case(True, fields=("Accept: application/json",)),
    "every field": Case(True, form={"submit": "Enviar"}),
    "text in other scripts": Case(True, form={"message": "Zoë 王 👩‍👩‍👧 +%&=<b>\r\nsecond"}),
    "charset": Case(False, fields=("Content-Type: application/x-www-form-urlencoded; charset=utf-8",), without=(FORM,)),
    "escaped name": Case(True, target="/send_message/%75ser1"),
    "name in other case": Case(True, target="/send_message/USER1"),
    "to oneself": Case(True, target="/send_message/{self}"),
    "extra space in a field": Case(True, fields=("X:  a  ",)),
    "no nonce": Case(False, form={"nonce": None}),
    "malformed nonce": Case(False, form={"nonce": "a b"}),
    "unknown field": Case(False, form={"colour": "red"}),
    "field twice": Case(False, more=b"&message=second"),
    "no text": Case(False, 422, form={"message": " \u200b"}),
    "missing text": Case(False, 422, form={"message": None}),
    "long text": Case(False, 422, form={"message": "x" * 141}),
    "NUL": Case(False, 400, form={"message": "a\0"}),
    "invalid UTF-8": Case(False, more=b"&submit=%ff"),
    "malformed escape": Case(True, more=b"&submit=%zz"),
    "bytes": Case(False, more="&submit=ü".encode()),
    "field without value": Case(False, more=b"&x"),
    "unknown recipient": Case(False, 404, target="/send_message/unknown"),
    "no recipient": Case(False, 404, target="/send_message/"),
    "two segments": Case(False, 404, target="/send_message/user1/"),
    "escaped slash": Case(False, 404, target="/send_message/user1%2F"),
    "NUL in the name": Case(False, 400, target="/send_message/user1%00"),
    "query": Case(False, target="/send_message/user1?a=b"),
    "foreign origin": Case(False, 403, fields=("Origin: http://evil.example",), without=(ORIGIN,)),
    "no origin": Case(False, 403, without=(ORIGIN,)),
    "two origins": Case(False, 403, fields=(ORIGIN,)),
    "cross-site": Case(False, 403, fields=("Sec-Fetch-Site: cross-site",)),
    "foreign host": Case(False, 400, fields=("Host: evil.example",), without=(HOST,)),
    "no token": Case(False, 403, form={"csrf_token": None}),
    "wrong token": Case(False, 403, form={"csrf_token": "1.aaaaaaaa." + "a" * 43}),
    "token in the header": Case(False, form={"csrf_token": None}, fields=("X-CSRFToken: {token}",)),
    "key of a program": Case(False, fields=("Idempotency-Key: k",)),
    "malformed key": Case(False, 400, fields=("Idempotency-Key: ü",)),
    "no type": Case(False, 403, without=(FORM,)),
    "another type": Case(False, 403, fields=("Content-Type: text/plain",), without=(FORM,)),
    "type twice": Case(False, fields=(FORM,)),
    "no cookie": Case(False, 403, fields=("Cookie: a=b",), without=("Cookie",)),
    "two cookie fields": Case(True, fields=("Cookie: other=1",)),
    "unreadable flashes": Case(True, fields=("Cookie: {flash}=x.y",)),
}


def request(case: Case, sender: Person, flash_cookie: str) -> tuple[str, list[str], bytes]:
    """The target, the header fields and the body of a case."""
    form: dict[str, str | None] = {"csrf_token": sender.token, "nonce": "nonce-1", "message": "hello", **case.form}
    body = urlencode({name: value for name, value in form.items() if value is not None}).encode() + case.more
    fields = [HOST, ORIGIN, FORM, f"Cookie: {sender.cookie}"]
    fields = [field for field in fields if not field.startswith(case.without or "\0")]
    fields += [field.format(token=sender.token, flash=flash_cookie) for field in case.fields]
    return case.target.format(self=sender.user.username), [*fields, f"Content-Length: {len(body)}"], body


async def received(site: Site) -> list[tuple[int, int, str]]:
    """Sender, recipient and text of every message, and the unread counts."""
    async with site.services.storage.reading() as reading:
        message = Base.metadata.tables["message"]
        rows = await reading.execute(select(message.c.sender_id, message.c.recipient_id, message.c.body))
        return [tuple(row) for row in rows]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_answer_equals_that_of_quart(site: Site, case: Case) -> None:
    direct, other = await person(site), await person(site)
    flash_cookie = site.app.extensions["flashes"]._cookie_name
    target, fields, body = request(case, direct, flash_cookie)
    async with raw_client(site.port) as client:
        await client.send(post(target, fields, body))
        ours = await response(client)
    assert bool(site.passed_on) is not case.direct
    theirs = await by_quart(site, *request(case, other, flash_cookie))
    assert ours.status == theirs.status == case.status
    if case.direct:
        names = direct.user.username, other.user.username
        expected = {name: value.replace(names[1], names[0]) for name, value in theirs.headers.items()}
        assert without_varying(ours.headers) == without_varying(expected)
    stored = await received(site)
    assert len(stored) == (2 if case.status == 303 else 0)
    assert len({row[2] for row in stored}) <= 1
    counts = {user.id: (await unread(site, user)) for user in (direct.user, other.user)}
    assert set(counts.values()) == {0}


def without_varying(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in VARYING}


async def unread(site: Site, user: User) -> int:
    async with site.services.storage.reading() as reading:
        mailbox = Base.metadata.tables["mailbox"]
        rows = await reading.execute(select(mailbox.c.unread_message_count).where(mailbox.c.user_id == user.id))
        return int(rows.scalar_one())


async def test_repeated_send_is_sent_once(site: Site) -> None:
    sender = await person(site)
    target, fields, body = request(Case(True, fields=NAVIGATE), sender, "")
    async with raw_client(site.port) as client:
        for passed_on in (0, 1, 2):
            await client.send(post(target, fields, body))
            answer = await response(client)
            assert (answer.status, answer.headers["location"]) == (303, "/user/user1#sent=nonce-1")
            assert len(site.passed_on) == passed_on
    assert len(await received(site)) == 1


async def test_flashes_accumulate(site: Site) -> None:
    sender = await person(site)
    async with raw_client(site.port) as client:
        for number, languages in enumerate(("en", "es", "es")):
            case = Case(True, form={"nonce": f"n{number}"}, fields=(*NAVIGATE, f"Accept-Language: {languages}"))
            await client.send(post(*request(case, sender, "")))
            cookie = (await response(client)).headers["set-cookie"].partition(";")[0]
            sender = sender._replace(cookie=f"{cookie}; {sender.cookie}")
        await client.send(get_page(sender.cookie))
        page = await response(client)
    assert page.body.decode().count("Your message has been sent.") == 1
    assert page.body.decode().count("Tu mensaje se ha enviado.") == 1


def get_page(cookie: str) -> bytes:
    return f"GET /user/user1 HTTP/1.1\r\n{HOST}\r\nCookie: {cookie}\r\n\r\n".encode()


async def test_confirmation_is_in_the_chosen_language(site: Site) -> None:
    sender = await person(site)
    name = site.app.config["PREFERENCES_COOKIE_NAME"]
    sender = sender._replace(cookie=f"{name}=zh-Hant.system; {sender.cookie}")
    async with raw_client(site.port) as client:
        case = Case(True, fields=(*NAVIGATE, "Accept-Language: es"))
        await client.send(post(*request(case, sender, "")))
        answer = await response(client)
    assert site.passed_on == []
    assert "訊息已送出。" in answer.body.decode()


async def test_ended_session_is_refused(site: Site) -> None:
    sender = await person(site)
    await site.end_sessions(sender.user)
    async with raw_client(site.port) as client:
        await client.send(post(*request(Case(False), sender, "")))
        assert (await response(client)).status == 401
    assert await received(site) == []


async def test_another_accounts_form_is_refused(site: Site) -> None:
    one, other = await person(site), await person(site)
    async with raw_client(site.port) as client:
        target, fields, _ = request(Case(False), one, "")
        _, _, body = request(Case(False), other, "")
        fields[-1] = f"Content-Length: {len(body)}"
        await client.send(post(target, fields, body))
        assert (await response(client)).status == 403
    assert await received(site) == []


async def test_stored_use_keeps_the_session_alive(site: Site) -> None:
    sender = await person(site)
    long_ago = sql_time.now() - 600 * MICROSECONDS
    await site.services.storage.write(lambda tx: tx.execute(update(Session).values(last_used=long_ago)))
    async with raw_client(site.port) as client:
        for nonce, passed_on in (("a", 1), ("b", 1)):
            await client.send(post(*request(Case(True, form={"nonce": nonce}, fields=NAVIGATE), sender, "")))
            assert (await response(client)).status == 303
            assert len(site.passed_on) == passed_on
            # A connection that Hypercorn serves comes back for the next send.


async def test_refused_sends_are_counted_once(settings: Settings) -> None:
    async with served(replace(settings, send_limit=Limit(1, 60))) as site:
        await site.user()
        sender = await person(site)
        refused = metrics.LIMITS["send"]
        before = refused.value(metrics._own)
        async with raw_client(site.port) as client:
            for nonce, status in (("a", 303), ("b", 429)):
                await client.send(post(*request(Case(True, form={"nonce": nonce}), sender, "")))
                assert (await response(client)).status == status
        assert refused.value(metrics._own) == before + 1
        assert len(await received(site)) == 1


async def test_unavailable_database_is_503_with_the_text(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = await person(site)

    async def fail(*_: Any, **__: Any) -> None:
        raise Unavailable

    monkeypatch.setattr(site.services.storage, "write", fail)
    async with raw_client(site.port) as client:
        case = Case(False, form={"message": "keep <this>"}, fields=NAVIGATE)
        await client.send(post(*request(case, sender, "")))
        answer = await response(client)
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    assert b"keep &lt;this&gt;" in answer.body


async def test_unexpected_error_is_500_with_a_reference(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = await person(site)

    async def fail(*_: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(site.services.messages, "attempt", fail)
    async with raw_client(site.port) as client:
        await client.send(post(*request(Case(False), sender, "")))
        answer = await response(client)
    assert answer.status == 500
    assert b'"reference"' in answer.body


# How a request arrives


async def test_request_in_single_bytes(site: Site) -> None:
    sender = await person(site)
    async with raw_client(site.port) as client:
        for byte in post(*request(Case(True), sender, "")):
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await response(client)).status == 303
    assert len(await received(site)) == 1


async def test_body_that_follows_its_head(site: Site) -> None:
    sender = await person(site)
    target, fields, body = request(Case(True), sender, "")
    async with raw_client(site.port) as client:
        for nonce in range(2):
            following = body.replace(b"nonce-1", b"nonce-%d" % nonce)
            await client.send(post(target, fields, b""))
            await asyncio.sleep(0)
            await client.send(following)
            assert (await response(client)).status == 303
    assert site.passed_on == []
    assert len(await received(site)) == 2


async def test_pipelined_sends_polls_and_pages(site: Site) -> None:
    sender = await person(site)
    cookie = f"Cookie: {sender.cookie}"
    poll = f"GET /notifications HTTP/1.1\r\n{HOST}\r\n{cookie}\r\n\r\n".encode()
    sends = [
        post(*request(Case(True, target="/send_message/{self}", form={"nonce": f"n{number}"}), sender, ""))
        for number in range(3)
    ]
    async with raw_client(site.port) as client:
        await client.send(sends[0] + poll + sends[1] + get_page(sender.cookie) + sends[2] + poll)
        statuses = [(await response(client)).status for _ in range(6)]
    assert statuses == [303, 200, 303, 200, 303, 200]
    assert len(await received(site)) == 3


async def test_send_is_completed_after_its_client_disconnected(site: Site) -> None:
    sender = await person(site)
    async with raw_client(site.port) as client:
        await client.send(post(*request(Case(True), sender, "")))
        client.writer.close()
    async with asyncio.timeout(60):
        while not await received(site):
            await asyncio.sleep(0)


async def test_half_closed_client_is_answered(site: Site) -> None:
    sender = await person(site)
    async with raw_client(site.port) as client:
        await client.send(post(*request(Case(True), sender, "")))
        client.writer.write_eof()
        answer = await rest(client)
    assert answer.startswith(b"HTTP/1.1 303")
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    "head",
    [
        "POST /send_message/user1 HTTP/1.0\r\n",
        "POST http://127.0.0.1/send_message/user1 HTTP/1.1\r\n",
        "POST /send_message/user1 HTTP/1.1\r\nExpect: 100-continue\r\n",
        "POST /send_message/user1 HTTP/1.1\r\nContent-Length: 1\r\n",
        "POST /send_message/user1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
        "POST /send_message/user1 HTTP/1.1\r\nTransfer-Encoding: identity\r\n",
        "POST /send_message/user1 HTTP/1.1\r\nContent-Length : 1\r\n",
        "POST /send_message/user1  HTTP/1.1\r\n",
        "POST /send_message/user1 HTTP/1.1\r\n a: folded\r\n",
        "PATCH /send_message/user1 HTTP/1.1\r\n",
        "POSTS /send_message/user1 HTTP/1.1\r\n",
    ],
)
async def test_other_requests_are_passed_on_whole(site: Site, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = await person(site)
    answered: list[Any] = []
    monkeypatch.setattr(site.app.extensions["direct"], "answer", lambda *given: answered.append(given))
    _, fields, body = request(Case(True), sender, "")
    async with raw_client(site.port) as client:
        await client.send(head.encode() + "\r\n".join([*fields, "", ""]).encode() + body)
        client.writer.write_eof()
        assert (await rest(client)).startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
    assert answered == []


async def test_long_body_is_passed_on(site: Site) -> None:
    sender = await person(site)
    case = Case(False, more=b"&submit=" + b"x" * 32768)
    async with raw_client(site.port) as client:
        await client.send(post(*request(case, sender, "")))
        assert (await response(client)).status == 303
    assert len(site.passed_on) == 1


# The API


async def bearer(site: Site, *scopes: str) -> str:
    return f"Authorization: Bearer {await site.services.tokens.add(await site.user(), 'test', scopes)}"


class Call(NamedTuple):
    """A request to the API, whether it is answered without Hypercorn, and the status."""

    status: int
    body: bytes = b'{"recipient": "user1", "body": "hello"}'
    target: str = "/api/v1/messages"
    fields: tuple[str, ...] = ("Content-Type: application/json", "{bearer}")
    direct: bool = True


CALLS = {
    "a message": Call(201),
    "unknown recipient": Call(404, b'{"recipient": "unknown", "body": "hello"}'),
    "no text": Call(422, b'{"recipient": "user1", "body": ""}'),
    "no JSON": Call(400, b"{"),
    "no body": Call(400, b""),
    "long body": Call(422, b'{"x": "' + b"x" * 30_000 + b'"}'),
    "form": Call(415, fields=("Content-Type: text/plain", "{bearer}")),
    "no token": Call(401, fields=("Content-Type: application/json",)),
    "long body without a token": Call(401, b" " * 9000, fields=("Content-Type: application/json",)),
    "scope missing": Call(403, b'{"items": []}', "/api/v1/notifications"),
    "unknown operation": Call(404, target="/api/v1/unknown"),
    "another method": Call(405, target="/api/v1/sessions"),
    "foreign origin": Call(403, fields=("Content-Type: application/json", "{bearer}", "Origin: http://evil.example")),
    "query": Call(201, target="/api/v1/messages?limit=1"),
    "malformed key": Call(400, fields=("Content-Type: application/json", "{bearer}", "Idempotency-Key: ü")),
    "escaped path": Call(201, target="/api/v1/%6dessages", direct=False),
    "longer body": Call(422, b'{"x": "' + b"x" * 40_000 + b'"}', direct=False),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_api_is_answered_alike_by_the_edge_and_the_application(site: Site, call: Call) -> None:
    token = await bearer(site, "messages:send")
    fields = [HOST, *(field.format(bearer=token) for field in call.fields), f"Content-Length: {len(call.body)}"]
    async with raw_client(site.port) as client:
        await client.send(post(call.target, fields, call.body))
        by_edge = await response(client)
    assert bool(site.passed_on) is not call.direct
    by_application = await by_quart(site, call.target, fields, call.body)
    assert by_edge.status == by_application.status == call.status
    assert without_varying(by_edge.headers) == without_varying(by_application.headers)
    timestamp = rb'"timestamp": [0-9.]+'
    assert re.sub(timestamp, b"", by_edge.body) == re.sub(timestamp, b"", by_application.body)
    assert len(await received(site)) == (2 if call.status == 201 else 0)


async def test_api_is_answered_to_allowed_origins_by_the_edge(settings: Settings) -> None:
    async with served(replace(settings, allowed_origins=frozenset({"https://other.example"}))) as site:
        token = await bearer(site, "messages:send")
        body = b'{"recipient": "user1", "body": "hello"}'
        fields = [HOST, token, "Content-Type: application/json", "Origin: https://other.example"]
        async with raw_client(site.port) as client:
            await client.send(post("/api/v1/messages", [*fields, f"Content-Length: {len(body)}"], body))
            answer = await response(client)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (201, "https://other.example")
        assert site.passed_on == []

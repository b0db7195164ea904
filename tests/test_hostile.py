"""Hostile bytes on the wire: refused cleanly, without a traceback, by a server that keeps working (I7)."""

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import pytest

from tests.http_client import session_cookie
from tests.server_process import DEADLINE, Person, Server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, database_environ: dict[str, str]) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), environ=database_environ) as server:
        yield server
    assert server.logged() == ""


@pytest.fixture
def bob(shared: Server) -> Iterator[Person]:
    bob = shared.person("bob")
    yield bob
    bob.close()


def answer(server: Server, request: bytes) -> bytes:
    """The response to some bytes, up to the end of its headers or of the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as connection:
        connection.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received and (more := connection.recv(65536)):
            received += more
    return received


def status(received: bytes) -> int:
    return int(received.split(b" ", 2)[1])


UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize("path", [b"/", b"/nothing", b"/static/x", b"//notifications", b"/messages"])
def test_websocket_to_another_path_is_not_found(shared: Server, path: bytes) -> None:
    assert status(answer(shared, b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + UPGRADE + b"\r\n")) == 404


@pytest.mark.parametrize("more", [b"", UPGRADE])
@pytest.mark.parametrize("cookie", [b"SESSION=\xff\xfe", b"\xff", b"=", b"SESSION=" + b"x" * 9000])
def test_malformed_cookie_signs_nobody_in(shared: Server, cookie: bytes, more: bytes) -> None:
    cookie = cookie.replace(b"SESSION", session_cookie(shared.url).encode())
    request = b"GET /notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: " + cookie + b"\r\n" + more + b"\r\n"
    assert status(answer(shared, request)) == 401


@pytest.mark.parametrize("protocol", [b"\xff", b"chat", b",,,"])
def test_subprotocol_offer_is_ignored(shared: Server, protocol: bytes) -> None:
    request = (
        b"GET /notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-WebSocket-Protocol: " + protocol + b"\r\n" + UPGRADE
    )
    assert status(answer(shared, request + b"\r\n")) == 401


BAD_REQUESTS = [
    (b"GET http://[::/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"GET /static/any/" + b"x" * 300 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
    (b"GET /notifications?since=%ff&name=%ff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 401),
    (b"GET /notifications?name=%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"GET /user/%ff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 303),
    (b"GET /user/%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"GET /user/\0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: microblog_session=\0\r\n\r\n", 400),
    (b"POST /auth/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\n\xff\xfe\x00", 403),
    (
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        200,
    ),
    (b"nonsense\r\n\r\n", 400),
]


@pytest.mark.parametrize(("request_", "expected"), BAD_REQUESTS)
def test_unusual_request_gets_a_clean_response(shared: Server, request_: bytes, expected: int) -> None:
    assert status(answer(shared, request_)) == expected


def test_http_2_is_refused(shared: Server) -> None:
    received = answer(shared, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert status(received) == 505


TEXTS = ["a\ud800b", "\ufffe\uffff", "\U0010ffff", "\x01\x7f\x85", "\u202e\u2066", "'; --", "%00", "\\0", "\\x00"]


PATHS = ("/user/{}", "/send_message/{}", "/?after={}", "/notifications?name={}", "/auth/login?next={}")


def test_unusual_text_is_no_error(bob: Person) -> None:
    """In every place that a client chooses; lone surrogates as the bytes that some programs send for them."""
    token = bob.token()
    for text in (each.encode("utf-8", "surrogatepass") for each in TEXTS):
        for path in PATHS:
            status = bob.client.get(path.format(quote(text, safe=""))).status_code
            assert status in (200, 302, 303, 400, 404), (path, text)
        fields = {"csrf_token": token, "nonce": text, "session": text, "message": b"hello " + text + b"."}
        for path in ("/send_message/bob", "/auth/sessions/end"):
            answer = bob.client.post(path, content=urlencode(fields), headers=FORM | {"Origin": bob.server.url})
            assert answer.status_code == 303, (path, text)


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_invalid_referer_redirects_to_messages(bob: Person) -> None:
    fields = {"csrf_token": bob.token()}
    answer = bob.client.post("/messages/read", data=fields, headers={"Referer": "http://[", "Origin": bob.server.url})
    assert (answer.status_code, answer.headers["Location"]) == (httpx.codes.SEE_OTHER, "/messages")


def test_one_foreign_origin_of_two_is_refused(bob: Person) -> None:
    origins = [("Origin", "https://evil.example"), ("Origin", bob.server.url)]
    assert bob.client.get("/notifications", headers=origins).status_code == 403


@pytest.mark.sqlite
def test_foreign_cookies_use_no_memory(shared: Server) -> None:
    def resident() -> int:
        assert shared.process is not None
        found = Path(f"/proc/{shared.process.pid}/status").read_text().split("VmRSS:")[1]
        return int(found.split()[0])

    with httpx.Client(base_url=shared.url, timeout=DEADLINE) as client:
        name = session_cookie(shared.url)
        before = resident()
        for number in range(1500):
            cookie = f"{name}={number:010}{'x' * 6000}"
            assert client.get("/notifications", headers={"Cookie": cookie}).status_code == 401
        assert resident() - before < 5_000  # KiB; if they were cached it would be 9,000


GET = b"GET /static/any/vendor/bootstrap/bootstrap.min.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def test_clients_that_never_read_do_not_block_stop(tmp_path: Path) -> None:
    with Server(tmp_path) as server, ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(GET * 40)
            assert connection.recv(10)
        assert server.stop(signal.SIGTERM) == 0
        assert "Traceback" not in server.logged()

"""Part A, line 1: the end of a connection is announced, and ambiguous requests are refused."""

import socket
from collections.abc import Iterator

import pytest

from tests.server_process import DEADLINE, Person, Server

SHORT = 0.3  # seconds; shorter than the server's linger


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database_environ: dict[str, str]) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), environ=database_environ) as server:
        yield server
        assert server.stop() == 0
    assert server.logged() == ""


@pytest.fixture(scope="module")
def bob(server: Server) -> Iterator[Person]:
    bob = server.person("bob")
    yield bob
    bob.close()


def conversation(server: Server, *parts: bytes, half_close: bool = False) -> bytes:
    """Everything received after sending ``parts`` in separate packets, until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            for part in parts:
                client.sendall(part)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            while more := client.recv(65536):
                received += more
        except ConnectionError:
            pass
    return received


def assert_closed_with(status: int, received: bytes) -> None:
    """The conversation ended with that status, and the end was announced."""
    head = received.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 %d" % status), received
    assert b"\r\nconnection: close" in head, received


def own(server: Server) -> bytes:
    return b"Host: 127.0.0.1:%d\r\n" % server.port


UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
KEYLESS = UPGRADE.replace(b"Sec-WebSocket-Key", b"Sec-WebSocket-Protocol")
LONG = b"X-Long: " + b"x" * 16_384 + b"\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


REFUSED = {
    "handshake without a session": (401, b"GET /notifications HTTP/1.1\r\nHOST" + UPGRADE + b"\r\n"),
    "handshake of another path": (404, b"GET / HTTP/1.1\r\nHOST" + UPGRADE + b"\r\n"),
    "handshake without key": (400, b"GET /notifications HTTP/1.1\r\nHOST" + KEYLESS + b"\r\n"),
    "unread body": (405, b"POST /notifications HTTP/1.1\r\nHOSTContent-Length: 9999\r\n\r\nx"),
    "unread chunked body": (405, b"POST /notifications HTTP/1.1\r\nHOST" + CHUNKED + b"\r\n2000\r\n" + b"x" * 8192),
    "too large a body": (
        413,
        b"POST /auth/login HTTP/1.1\r\nHOSTOrigin: http://AUTHORITY\r\n" + FORM + b"Content-Length: 99999\r\n\r\nx",
    ),
    "long head": (431, b"GET / HTTP/1.1\r\nHOST" + LONG + b"\r\n"),
    "endless head": (431, b"GET / HTTP/1.1\r\nHOST" + LONG),
    "nonsense": (400, b"nonsense\r\n\r\n"),
    "length twice": (400, b"POST / HTTP/1.1\r\nHOSTContent-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n"),
    "chunks in HTTP/1.0": (400, b"POST / HTTP/1.0\r\nHOST" + CHUNKED + b"\r\n0\r\n\r\n"),
    "different lengths": (400, b"POST / HTTP/1.1\r\nHOSTContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    "bare LF": (400, b"GET / HTTP/1.1\nHOST\r\n\r\n"),
    "bare LF alone": (400, b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n"),
    "bare LF between headers": (400, b"GET / HTTP/1.1\r\nHOSTA: 1\nB: 2\r\n\r\n"),
    "bare LF at the end": (400, b"GET / HTTP/1.1\r\nHOST\n"),
    "bare LF before": (400, b"\nGET / HTTP/1.1\r\nHOST\r\n"),
    "bare CR": (400, b"GET / HTTP/1.1\r\nHOSTA: 1\rB: 2\r\n\r\n"),
    "LF in a chunk header": (400, b"POST / HTTP/1.1\r\nHOST" + CHUNKED + b"\r\n5\nhello\n0\n\n"),
    "control in a chunk extension": (400, b"POST / HTTP/1.1\r\nHOST" + CHUNKED + b"\r\n5;a=\x01\r\nhello\r\n0\r\n\r\n"),
    "CR in a chunk extension": (400, b"POST / HTTP/1.1\r\nHOST" + CHUNKED + b"\r\n5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "long chunk extension": (400, b"POST / HTTP/1.1\r\nHOST" + CHUNKED + b"\r\n5;" + b"a" * 300),
    "bare LF in a trailer": (400, b"POST / HTTP/1.1\r\nHOST" + CHUNKED + b"\r\n0\r\nA: 1\nB: 2\r\n\r\n"),
    "HTTP/2.0": (505, b"GET / HTTP/2.0\r\nHOST\r\n"),
    "HTTP/3.7": (505, b"GET / HTTP/3.7\r\nHOST\r\n"),
    "foreign authority": (400, b"GET http://evil.example/ HTTP/1.1\r\nHOST\r\n"),
    "foreign authority and Host": (400, b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    "authority with a user": (400, b"GET http://a@AUTHORITY/ HTTP/1.1\r\nHOST\r\n"),
    "no authority": (400, b"GET http:/// HTTP/1.1\r\nHOST\r\n"),
    "another scheme": (400, b"GET ftp://AUTHORITY/ HTTP/1.1\r\nHOST\r\n"),
    "CONNECT": (400, b"CONNECT AUTHORITY HTTP/1.1\r\nHOST\r\n"),
    "asterisk": (400, b"GET * HTTP/1.1\r\nHOST\r\n"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_request_is_closed_and_says_so(server: Server, what: str) -> None:
    status, request = REFUSED[what]
    sent = request.replace(b"HOST", own(server)).replace(b"AUTHORITY", b"127.0.0.1:%d" % server.port)
    assert_closed_with(status, conversation(server, sent))
    pieces = [sent[start : start + 1000] for start in range(0, len(sent), 1000)]
    if len(sent) < 500:
        pieces = [bytes([each]) for each in sent]
    assert_closed_with(status, conversation(server, *pieces))


@pytest.mark.parametrize("target", [b"/auth/login", b"/static/any/css/microblog.css", b"/notifications", b""])
def test_absolute_form_with_own_authority(server: Server, bob: Person, target: bytes) -> None:
    authority = b"127.0.0.1:%d" % server.port
    head = b"GET HTTP://" + authority + target + b" HTTP/1.1\r\n" + own(server)
    received = conversation(server, head + f"Cookie: {bob.cookie()}\r\nConnection: close\r\n\r\n".encode())
    assert received.split(b" ")[1] in (b"200", b"302"), received


def test_absolute_form_opens_a_websocket(server: Server, bob: Person) -> None:
    authority = b"127.0.0.1:%d" % server.port
    head = b"GET http://" + authority + b"/notifications HTTP/1.1\r\n" + own(server) + UPGRADE
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as client:
        client.sendall(head + f"Origin: {server.url}\r\nCookie: {bob.cookie()}\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 101"


@pytest.mark.parametrize("stray", [b"\r\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00"])
def test_data_after_the_last_request_is_ignored(server: Server, stray: bytes) -> None:
    """403: the POST has no Origin."""
    head = b"POST /auth/login HTTP/1.1\r\nConnection: close\r\n" + own(server) + FORM + b"Content-Length: 3\r\n\r\na=b"
    for parts in [(head + stray,), (head, stray)]:
        received = conversation(server, *parts)
        assert_closed_with(403, received)
        assert received.count(b"HTTP/1.1 ") == 1


def test_empty_line_between_requests_is_skipped(server: Server) -> None:
    head = b"POST /auth/login HTTP/1.1\r\n" + own(server) + FORM + b"Content-Length: 3\r\n\r\na=b\r\n"
    last = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n" + own(server) + b"\r\n"
    received = conversation(server, head, last)
    assert received.count(b"HTTP/1.1 403 ") == received.count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize("count", [1, 3])
def test_half_closed_client_gets_its_response(server: Server, count: int) -> None:
    received = conversation(server, (b"GET /auth/login HTTP/1.1\r\n" + own(server) + b"\r\n") * count, half_close=True)
    assert received.count(b"HTTP/1.1 200 ") == received.count(b"</html>") == count


def test_half_closed_client_that_sent_half_a_body(server: Server) -> None:
    head = b"POST /auth/login HTTP/1.1\r\n" + own(server) + b"Content-Length: 30\r\n\r\nx"
    assert_closed_with(400, conversation(server, head, half_close=True))


BAD_HOSTS = [
    b"a..b",
    b".",
    b"a" * 64,
    b"a." * 200,
    b"[",
    b"a b",
    b"a\xff",
    b"a:1:2",
    b"a/b",
    b"@a",
    b"127.0.0.1:999999",
]


@pytest.mark.parametrize("host", BAD_HOSTS)
@pytest.mark.parametrize("path", [b"/", b"/notifications", b"/healthz"])
def test_malformed_host_is_refused(server: Server, host: bytes, path: bytes) -> None:
    request = b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n"
    for more in (b"", UPGRADE):
        received = conversation(server, request + more + b"\r\n")
        assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")), received
        assert b"500" not in received[:20]

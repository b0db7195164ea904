"""Origin, Sec-Fetch-Site and Host checks, on every transport, over real sockets.

See also: ``web/test_writes.py`` for state-changing requests, ``web/test_public_url.py`` for https.
"""

import socket
from collections.abc import Iterator

import pytest

from tests.server_process import DEADLINE, Person, Server

HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
TRANSPORTS = {
    "poll": ("/notifications", "", 200),
    "long poll": ("/notifications?wait=0.01", "", 200),
    "websocket": ("/notifications", HANDSHAKE, 101),
}
PAGES = ["/", "/messages", "/auth/login", "/static/any/rt/main.js", "/nothing"]

# Requested at http://127.0.0.1:PORT, where {port} is the right one.
FOREIGN = [
    # other hosts
    "http://evil.example",
    "http://evil.example:{port}",
    "https://evil.example",
    "http://127.0.0.2:{port}",
    "http://0.0.0.0:{port}",
    # other ports
    "http://127.0.0.1",
    "http://127.0.0.1:",
    "http://127.0.0.1:1",
    "http://127.0.0.1:80",
    "http://127.0.0.1:{port}0",
    "http://127.0.0.1:0{port}",
    "http://127.0.0.1:+{port}",
    # other schemes
    "https://127.0.0.1:{port}",
    "ws://127.0.0.1:{port}",
    "wss://127.0.0.1:{port}",
    "ftp://127.0.0.1:{port}",
    "file://",
    "chrome-extension://fmkadmapgofadopljbjfkapdkoienihi",
    "http:127.0.0.1:{port}",
    "//127.0.0.1:{port}",
    "127.0.0.1:{port}",
    # none at all
    "null",
    "",
    "undefined",
    "*",
    # prefixes and suffixes
    "http://127.0.0.1:{port}.evil.example",
    "http://127.0.0.1.evil.example:{port}",
    "http://evil-127.0.0.1:{port}",
    "http://sub.127.0.0.1:{port}",
    "http://evil.example/http://127.0.0.1:{port}",
    "http://evil.example?http://127.0.0.1:{port}",
    "http://evil.example#http://127.0.0.1:{port}",
    # more than an origin
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/notifications",
    "http://127.0.0.1:{port}?",
    "http://127.0.0.1:{port}#",
    "http://alice@127.0.0.1:{port}",
    "http://alice:secret@127.0.0.1:{port}",
    "http://127.0.0.1:{port}@evil.example",
    # the same, written otherwise
    "HTTP://127.0.0.1:{port}",
    "http://127.0.0.1.:{port}",
    "http://127.1:{port}",
    "http://2130706433:{port}",
    "http://0x7f.0.0.1:{port}",
    "http://0177.0.0.1:{port}",
    "http://localhost:{port}",
    "http://[::1]:{port}",
    "http://[::ffff:127.0.0.1]:{port}",
    "http://[::ffff:7f00:1]:{port}",
    "http://%31%32%37.0.0.1:{port}",
    "http://127%2e0%2e0%2e1:{port}",
    "http://%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1:{port}",  # full-width digits
    "http://１２７.0.0.1:{port}",
    "http://127\u30020\u30020\u30021:{port}",  # ideographic full stops
    # white space, and several
    "http://127.0.0.1 :{port}",
    "http:// 127.0.0.1:{port}",
    "http://127.0.0.1:{port} http://127.0.0.1:{port}",
    "http://127.0.0.1:{port} http://evil.example",
    "http://evil.example http://127.0.0.1:{port}",
    "http://127.0.0.1:{port},http://127.0.0.1:{port}",
    "http://127.0.0.1:{port}, null",
    "http://127.0.0.1:{port}\thttp://evil.example",
]

# Requested at http://localhost:PORT.
FOREIGN_TO_LOCALHOST = [
    "http://127.0.0.1:{port}",
    "http://LOCALHOST:{port}",
    "http://localhost.:{port}",
    "http://localhost.evil.example:{port}",
    "http://sub.localhost:{port}",
    "http://xlocalhost:{port}",
    "http://loca1host:{port}",
    "http://xn--lcalhost-54a:{port}",
    "http://l\u043ecalhost:{port}",
    "http://l%D0%BEcalhost:{port}",
    "http://\u24dbocalhost:{port}",
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), environ={"MICROBLOG_TABS_PER_USER": ""}) as server:
        yield server
    # The requests of one test have a header of a proxy.
    assert [line for line in server.warnings_logged() if "forwarding headers ignored" not in line] == []


@pytest.fixture(scope="module")
def alice(shared: Server) -> Iterator[Person]:
    alice = shared.person("alice")
    alice.send("alice", "something to be told")
    yield alice
    alice.close()


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def status(
    person: Person, transport: str, *headers: str, host: str = "127.0.0.1:{port}", cookie: str | None = None
) -> int:
    """The response to a request that is valid except for these headers, sent byte by byte."""
    target, upgrade, _ = TRANSPORTS.get(transport, (transport, "", 0))
    port = person.server.port
    lines = [
        f"GET {target} HTTP/1.1",
        f"Cookie: {person.cookie() if cookie is None else cookie}",
        f"Host: {host}",
        *headers,
    ]
    request = "\r\n".join(lines).replace("{port}", str(port)) + f"\r\n{upgrade}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(request.encode())
        received = connection.recv(4096)
    return int(received.split(b" ", 2)[1])


def test_enough_origins_are_tried() -> None:
    assert len(set(FOREIGN)) >= 40


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "LocalHost"])
def test_own_origin_is_accepted(alice: Person, transport: str, host: str) -> None:
    origin = f"Origin: http://{host.lower()}:{{port}}"
    assert status(alice, transport, origin, host=host + ":{port}") == TRANSPORTS[transport][2]


@pytest.mark.parametrize("origin", FOREIGN)
def test_foreign_origin_is_refused(alice: Person, transport: str, origin: str) -> None:
    assert status(alice, transport, f"Origin: {origin}") == 403


@pytest.mark.parametrize("origin", FOREIGN_TO_LOCALHOST)
def test_similar_origin_is_refused(alice: Person, transport: str, origin: str) -> None:
    assert status(alice, transport, f"Origin: {origin}", host="localhost:{port}") == 403


OURS, OTHER = "Origin: http://127.0.0.1:{port}", "Origin: http://evil.example"


@pytest.mark.parametrize("origins", [(OURS, OTHER), (OTHER, OURS), (OURS, OURS), (OURS, "oRIGIN: null")])
def test_two_origin_headers_are_refused(alice: Person, transport: str, origins: tuple[str, str]) -> None:
    assert status(alice, transport, *origins) == 403


def test_missing_origin_allows_poll_and_refuses_handshake(alice: Person, transport: str) -> None:
    """A page can open and read a foreign WebSocket, but not read the response to a foreign poll."""
    assert status(alice, transport) == (403 if transport == "websocket" else 200)


def test_foreign_page_cannot_tell_who_is_signed_in(alice: Person, transport: str) -> None:
    assert status(alice, transport, OTHER, cookie="") == 403
    assert status(alice, transport, OURS, cookie="") == 401
    assert status(alice, transport, cookie="") == 401


# Sec-Fetch-Site

FOREIGN_SITES = ["cross-site", "same-site", "", "Same-Origin", "same-origin, cross-site", "none none", "null"]


@pytest.mark.parametrize("site", FOREIGN_SITES)
def test_cross_site_fetch_metadata_is_refused(alice: Person, transport: str, site: str) -> None:
    assert status(alice, transport, OURS, f"Sec-Fetch-Site: {site}") == 403
    assert status(alice, transport, f"Sec-Fetch-Site: {site}") == 403


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_same_origin_fetch_metadata_is_accepted(alice: Person, transport: str, site: str) -> None:
    assert status(alice, transport, OURS, f"Sec-Fetch-Site: {site}") == TRANSPORTS[transport][2]
    assert status(alice, transport, OURS, f"Sec-Fetch-Site: {site}", "Sec-Fetch-Site: cross-site") == 403


# Host

FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "localhost.:{port}",
    "sub.localhost",
    "0.0.0.0:{port}",
    "127.0.0.2:{port}",
    "2130706433",
    "[::]",
    "[::1",
    "[::ffff:127.0.0.1]",
    "127.0.0.1:{port},evil.example",
    "127.0.0.1:{port} evil.example",
    "127.0.0.1:{port}x",
    "127.0.0.1:{port}:1",
    "evil.example@127.0.0.1:{port}",
    "127.0.0.1/evil.example",
    "127.0.0.1?evil.example",
    "l\u043ecalhost",
    ":{port}",
    "",
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_foreign_host_is_refused(alice: Person, transport: str, host: str) -> None:
    """Another name that resolves to this address (DNS rebinding) would make foreign pages same-origin."""
    assert status(alice, transport, f"Origin: http://{host}", host=host) == 400
    assert status(alice, transport, OURS, host=host) == 400


@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_served_under_a_foreign_host(alice: Person, page: str) -> None:
    assert {status(alice, page, host=host) for host in FOREIGN_HOSTS} == {400}
    assert status(alice, page) in (200, 302, 404)


@pytest.mark.parametrize("page", ["/healthz", "/readyz"])
def test_health_accepts_any_host(alice: Person, page: str) -> None:
    """A load balancer may use the address or any name."""
    assert {status(alice, page, host=host) for host in ["127.0.0.1:{port}", "10.0.0.1", "evil.example", ""]} == {200}


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "Forwarded", "X-Forwarded-Server", "X-Original-Host"])
def test_forwarded_host_is_ignored(alice: Person, transport: str, header: str) -> None:
    lie = f"{header}: {'host=' if header == 'Forwarded' else ''}evil.example"
    assert status(alice, transport, OTHER, lie) == 403
    assert status(alice, transport, OTHER, lie, host="evil.example") == 400

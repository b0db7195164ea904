"""``Hosts``: the client address behind proxies, and the accepted Host headers."""

import logging
from typing import Any

import pytest

from microblog_rt.errors import BadRequest
from microblog_rt.settings import Settings
from microblog_rt.web.hosts import Hosts

PROXY = "10.0.0.1"


def scope(*headers: tuple[str, str], client: str | None = PROXY, server: str | None = "10.0.0.2") -> Any:
    return {
        "path": "/",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": client and (client, 1234),
        "server": server and (server, 8000),
    }


def address(hops: int, *forwarded: str, client: str | None = PROXY) -> str:
    return Hosts(Settings(trusted_hops=hops)).client_address(
        scope(*(("X-Forwarded-For", each) for each in forwarded), client=client)
    )


# Client addresses


@pytest.mark.parametrize(
    ("hops", "forwarded", "counted"),
    [
        (0, [], PROXY),
        (0, ["192.0.2.1"], PROXY),
        (0, ["192.0.2.1, 192.0.2.2"], PROXY),
        (1, ["192.0.2.1"], "192.0.2.1"),
        (1, ["198.51.100.9, 192.0.2.1"], "192.0.2.1"),
        (1, ["198.51.100.9", "192.0.2.1"], "192.0.2.1"),
        (1, ["198.51.100.9, 192.0.2.1", "192.0.2.2"], "192.0.2.2"),
        (2, ["198.51.100.9, 192.0.2.1, 192.0.2.2"], "192.0.2.1"),
        (2, ["198.51.100.9", "192.0.2.1", "192.0.2.2"], "192.0.2.1"),
        (2, ["198.51.100.9, 192.0.2.1", "192.0.2.2"], "192.0.2.1"),
        (1, ["  192.0.2.1\t"], "192.0.2.1"),
        (1, ["198.51.100.9, 192.0.2.1:4711"], "192.0.2.1"),
        (1, ["[2001:DB8::1]:443"], "2001:db8::/64"),
    ],
)
def test_client_address_behind_trusted_proxies(hops: int, forwarded: list[str], counted: str) -> None:
    assert address(hops, *forwarded) == counted


@pytest.mark.parametrize(
    ("hops", "forwarded", "counted"),
    [
        (1, [], PROXY),
        (9, [], PROXY),
        (2, ["192.0.2.1"], "192.0.2.1"),
        (3, ["192.0.2.1, 192.0.2.2"], "192.0.2.1"),
    ],
)
def test_too_few_forwarded_addresses_are_counted_apart(hops: int, forwarded: list[str], counted: str) -> None:
    """Not as one address, and never as an address that all proxies have confirmed."""
    assert address(hops, *forwarded) == f"unverified {counted}"


GARBAGE = [
    "",
    ",",
    "unknown",
    "_hidden",
    "192.0.2",
    "192.0.2.256",
    "evil.example",
    "1",
    "\xff",
    "é" * 99,
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_malformed_forwarded_for_is_counted_apart(garbage: str) -> None:
    assert address(1, garbage) == f"unverified {PROXY}"
    assert address(1, f"192.0.2.1, {garbage}") == "unverified 192.0.2.1"
    assert address(1, f"{garbage}, 192.0.2.1") == "192.0.2.1"


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:C000:0201", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        (None, ""),
        ("/run/microblog.sock", ""),
    ],
)
def test_ipv6_addresses_of_one_network_count_once(client: str | None, counted: str) -> None:
    """A customer usually controls the last 64 bits of an IPv6 address; IPv4-mapped addresses count as IPv4."""
    assert address(0, client=client) == counted
    if counted:
        assert address(1, str(client)) == counted


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_untrusted_proxy_is_logged_once(caplog: pytest.LogCaptureFixture, header: str) -> None:
    gate = Hosts(Settings())
    gate.client_address(scope())
    assert caplog.records == []
    for _ in range(3):
        gate.client_address(scope((header, "192.0.2.1")))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "MICROBLOG_TRUSTED_HOPS" in record.getMessage()
    assert "192.0.2.1" not in record.getMessage()


@pytest.mark.parametrize(
    ("hops", "forwarded", "words"),
    [(2, "9.9.9.9", "fewer addresses"), (1, "9.9.9.9, 10.0.0.9", "if that is another proxy's")],
)
def test_wrong_number_of_hops_is_logged_once(
    caplog: pytest.LogCaptureFixture, hops: int, forwarded: str, words: str
) -> None:
    hosts = Hosts(Settings(trusted_hops=hops))
    for _ in range(3):
        hosts.client_address(scope(("X-Forwarded-For", forwarded)))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert words in record.getMessage()


def test_right_number_of_hops_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    hosts = Hosts(Settings(trusted_hops=1))
    for forwarded in ("10.0.0.9", "9.9.9.9", "198.51.100.9, 9.9.9.9"):
        hosts.client_address(scope(("X-Forwarded-For", forwarded)))
    hosts.client_address(scope() | {"path": "/readyz"})
    assert caplog.records == []


# Host headers


def answers_to(host: str, *, server: str | None = "10.0.0.2", **settings: Any) -> bool:
    try:
        Hosts(Settings(**settings)).check_host(scope(("Host", host), server=server))
    except BadRequest:
        return False
    return True


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8000"]
)
def test_loopback_hosts_are_accepted(host: str) -> None:
    assert answers_to(host)


@pytest.mark.parametrize("port", ["", ":8000"])
def test_server_address_is_an_accepted_host(port: str) -> None:
    assert answers_to(f"10.0.0.2{port}")
    assert answers_to(f"[2001:db8::2]{port}", server="2001:db8::2")
    assert answers_to(f"10.0.0.2{port}", server="::ffff:10.0.0.2")
    assert not answers_to(f"10.0.0.3{port}")


@pytest.mark.parametrize("port", ["", ":8000"])
def test_bound_name_is_an_accepted_host(port: str) -> None:
    assert answers_to(f"intranet{port}", bind_hosts={"Intranet"})
    assert answers_to(f"INTRANET.example{port}", bind_hosts={"intranet.example"})
    assert not answers_to(f"intranet.example{port}", bind_hosts={"intranet"})


FOREIGN = [
    "",
    ":8000",
    "evil.example",
    "localhost.",
    "localhost.evil.example",
    "evil@localhost",
    "localhost:8000@evil.example",
    "localhost,evil.example",
    "localhost:8000,evil.example",
    "localhost evil.example",
    "localhost/evil.example",
    "localhost?",
    "localhost#",
    "localhost:port",
    "localhost:8000:1",
    "localhost:123456",
    "localhost\\evil.example",
    "[::1",
    "::1",
    "[localhost]",
    "[::1]evil.example",
    "loc\xe4lhost",
]


@pytest.mark.parametrize("host", FOREIGN)
def test_other_hosts_are_refused(host: str) -> None:
    assert not answers_to(host)
    assert not answers_to(host, server=None)
    assert not answers_to(host, public_url="https://microblog.example")


def test_public_url_accepts_only_its_host() -> None:
    for host in ("microblog.example", "MICROBLOG.example", "microblog.example:443"):
        assert answers_to(host, public_url="https://microblog.example")
    for host in ("localhost", "127.0.0.1", "10.0.0.2", "intranet", "microblog.example:8000"):
        assert not answers_to(host, public_url="https://microblog.example", bind_hosts={"intranet"})


def test_http_public_url_accepts_only_its_host() -> None:
    for host in ("intranet", "intranet:80"):
        assert answers_to(host, public_url="http://intranet")
    for host in ("localhost", "intranet:443", "intranet:8000"):
        assert not answers_to(host, public_url="http://intranet")


def test_public_url_with_port_requires_it() -> None:
    url = "https://microblog.example:8443"
    assert answers_to("microblog.example:8443", public_url=url)
    for host in ("microblog.example", "microblog.example:443", "microblog.example:8000"):
        assert not answers_to(host, public_url=url)


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_host_header_is_accepted(count: int) -> None:
    with pytest.raises(BadRequest):
        Hosts(Settings()).check_host(scope(*[("Host", "localhost")] * count))

"""The listening socket inherited from systemd stays open between two servers."""

import asyncio
import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from microblog_rt.errors import Misconfigured
from microblog_rt.server import listening
from microblog_rt.server.accepting import Acceptor
from tests.ports import free_port
from tests.server_process import COMMAND, DEADLINE
from tests.services import Redis

# As systemd starts a service: the socket is descriptor 3, and LISTEN_PID names this process.
AS_SYSTEMD = """
import os, sys

given = int(sys.argv[1])
os.dup2(given, 3)
if given != 3:
    os.close(given)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def kept() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as kept:
        yield kept


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path) as redis:
        yield redis


def start(folder: Path, kept: socket.socket, *options: str, **environ: str) -> subprocess.Popen[str]:
    """A server that inherits ``kept`` as descriptor 3."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MICROBLOG_", "LISTEN_"))}
    return subprocess.Popen(
        [sys.executable, "-c", AS_SYSTEMD, str(kept.fileno()), *COMMAND, "serve", "--bind", "systemd", *options],
        cwd=folder,
        env=clean | {"PYTHONUNBUFFERED": "1", "LISTEN_FDS": "1", "MICROBLOG_DRAIN": "0"} | environ,
        pass_fds=[kept.fileno()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(server: subprocess.Popen[str]) -> None:
    with server:
        server.terminate()
        assert server.wait(DEADLINE) == 0


def test_client_connecting_between_servers_is_served_by_next(tmp_path: Path, kept: socket.socket, redis: Redis) -> None:
    url = f"http://127.0.0.1:{kept.getsockname()[1]}"
    first = start(tmp_path, kept, "--demo")
    assert first.stdout is not None
    assert url in first.stdout.readline()
    assert httpx.get(f"{url}/readyz", timeout=DEADLINE).json()["status"] == "ready"
    stop(first)
    with socket.create_connection(kept.getsockname()) as early:
        early.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        second = start(tmp_path, kept, "--workers", "2", MICROBLOG_BUS_URL=redis.url)
        early.settimeout(DEADLINE)
        assert early.recv(4096).startswith(b"HTTP/1.1 200")
        stop(second)


def test_several_addresses_of_every_kind_are_served(tmp_path: Path) -> None:
    """A socket for IPv6 and IPv4, one of the file system left by another server, and an address of its own."""
    both, other, path = free_port(), free_port(), tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    binds = ["--bind", f"[::]:{both}", "--bind", f"unix:{path}", "--bind", f"127.0.0.1:{other}"]
    server = subprocess.Popen([*COMMAND, "serve", *binds], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert f"http://[::]:{both} and unix:{path} and http://127.0.0.1:{other}" in server.stdout.readline()
    # The Host is that of the connection: an IPv4 address that the socket reports as ::ffff:127.0.0.2.
    for url in (f"http://127.0.0.2:{both}", f"http://[::1]:{both}", f"http://127.0.0.1:{other}"):
        assert httpx.get(f"{url}/auth/login", timeout=DEADLINE).status_code == 200
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=DEADLINE) as client:
        assert client.get("http://localhost/auth/login").status_code == 200
    with pytest.raises(Misconfigured, match="in use"):
        listening.listen(f"unix:{path}")
    stop(server)


class File(Protocol):
    def fileno(self) -> int: ...


Hand = Callable[[File], None]


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    """Pass a file to this process as systemd would."""

    def hand(file: File) -> None:
        monkeypatch.setattr(listening, "FIRST_INHERITED", file.fileno())
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))

    return hand


def test_inherited_socket_determines_the_host(kept: socket.socket, hand: Hand) -> None:
    """The host decides whether demo accounts are allowed, and which Host header is accepted."""
    hand(kept)
    assert listening.hosts(["systemd"]) == {"127.0.0.1"}
    (inherited,) = listening.listen_all(["systemd"])
    with inherited:
        assert listening.url(inherited) == f"http://127.0.0.1:{kept.getsockname()[1]}"


def test_several_inherited_sockets_are_used(
    kept: socket.socket, hand: Hand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "socket"))
        local.listen()
        first, second = (socket.socket(fileno=fcntl.fcntl(each, fcntl.F_DUPFD, 500)) for each in (kept, local))
    with first, second:
        assert second.fileno() == first.fileno() + 1, "the precondition"
        hand(first)
        monkeypatch.setenv("LISTEN_FDS", "2")
        sockets = listening.listen_all(["systemd"])
        assert [each.getsockname() for each in sockets] == [first.getsockname(), second.getsockname()]
        assert listening.hosts(["systemd", "unix:/nowhere"]) == {"127.0.0.1"}
        for each in sockets:
            each.close()


@pytest.mark.parametrize(("name", "value"), [("LISTEN_FDS", "0"), ("LISTEN_FDS", "x"), ("LISTEN_PID", "1")])
def test_missing_inherited_socket_is_reported(
    kept: socket.socket, hand: Hand, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    hand(kept)
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=r"deploy/microblog-rt\.socket"):
        listening.listen_all(["systemd"])


def test_unusable_inherited_socket_is_refused(tmp_path: Path, hand: Hand) -> None:
    with socket.socket() as unbound, (tmp_path / "file").open("w") as file:
        hand(unbound)
        with pytest.raises(Misconfigured, match="ListenStream=HOST:PORT"):
            listening.hosts(["systemd"])
        hand(file)
        with pytest.raises(Misconfigured, match="cannot be used"):
            listening.listen_all(["systemd"])


async def test_accepted_connections_send_at_once() -> None:
    """Without TCP_NODELAY the end of each response would wait 40 ms for the client's acknowledgement."""
    accepted: asyncio.Future[asyncio.BaseTransport] = asyncio.get_running_loop().create_future()

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.set_result(transport)

    listener = listening.listen("127.0.0.1:0")
    acceptor = Acceptor(listener, Connection, 0)
    acceptor.start()
    with socket.create_connection(listener.getsockname()):
        transport = await accepted
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.close()
    acceptor.close()

"""The push servers: how each is started, how tabs speak to it, and how an event is published to all of its tabs."""

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.ports import free_port

from benchmarks import meter
from benchmarks.browser import Browser, post_request
from benchmarks.peers.process import running
from benchmarks.tabs import Dialect, masked
from benchmarks.world import PREFIX
from microblog_rt.files import CHECKOUT

FOLDER = Path(__file__).parent
BUILD = Path(sys.prefix) / "centrifuge"
# As many bytes as a frame of microblog-rt.
EVENT = b'[{"name":"unread_message_count","data":1234,"timestamp":1764400000.123456}]'


class Running(NamedTuple):
    """A push server that runs."""

    port: int
    pid: int
    path: str
    dialect: Dialect

    async def publish(self, browser: Browser) -> None:
        """Publish one event to all tabs."""
        answer = await browser.ask(post_request(self.port, self.path, "", EVENT, "Content-Type: text/plain\r\n"))
        assert answer.status in (200, 201, 202), answer


class Push(ABC):
    """A push server."""

    name: str
    path = "/publish"
    dialect: Dialect

    def prepare(self) -> None:
        """Install or build what it needs."""
        return

    @contextmanager
    def serving(self) -> Iterator[Running]:
        """Start it; stops it on exit."""
        port = free_port()
        with TemporaryDirectory(prefix=PREFIX) as folder:
            command = self.command(port, Path(folder))
            with running(command, Path(folder), port) as pid:
                yield Running(port, pid, self.path, self.dialect)

    @abstractmethod
    def command(self, port: int, folder: Path) -> list[str]:
        """What starts it."""


class Centrifuge(Push):
    """A Go program with the library of Debian, which the first run builds."""

    name = "Centrifuge"
    dialect = Dialect("/connection", masked(b'{"id":1,"params":{}}'), 1, {})

    def prepare(self) -> None:
        _tools("centrifuge")
        source = FOLDER / "centrifuge"
        if BUILD.exists() and BUILD.stat().st_mtime > (source / "main.go").stat().st_mtime:
            return
        environ = os.environ | {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""}
        subprocess.run(["go", "build", "-o", BUILD, "main.go"], cwd=source, env=environ, check=True)

    def command(self, port: int, folder: Path) -> list[str]:
        return [str(BUILD), f"127.0.0.1:{port}"]


class Nchan(Push):
    """nginx with Debian's module."""

    name = "nchan"
    path = "/pub"
    dialect = Dialect("/sub", b"", 0, {})

    def prepare(self) -> None:
        _tools("nchan")

    def command(self, port: int, folder: Path) -> list[str]:
        text = (FOLDER / "nchan.conf").read_text()
        for name, value in {"port": port, "folder": folder, "files": meter.descriptors()}.items():
            text = text.replace(f"{{{name}}}", str(value))
        (folder / "nginx.conf").write_text(text)
        return ["/usr/sbin/nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


class SocketIO(Push):
    """python-socketio on uvicorn, without compression, as the others."""

    name = "python-socketio"
    dialect = Dialect("/socket.io/?EIO=4&transport=websocket", masked(b"40"), 2, {b"2": masked(b"3")})

    def command(self, port: int, folder: Path) -> list[str]:
        uvicorn = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
        options = ["--ws", "websockets-sansio", "--ws-per-message-deflate", "false", "--ws-ping-interval", "0"]
        return [*uvicorn, *options, "--log-level", "warning", "benchmarks.peers.socketio_app:app"]


SERVERS: tuple[Push, ...] = (Centrifuge(), Nchan(), SocketIO())


def _tools(*names: str) -> None:
    subprocess.run([CHECKOUT / ".ci/tools", *names], check=True)

"""The configurations of HAProxy and Caddy in ``docs/operations.md``, and nginx behind HAProxy, with real programs."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent
from types import TracebackType

import httpx
import pytest

from microblog_rt import files
from tests.server_process import DEADLINE, Person, Server
from tests.services import BOUND
from tests.sockets import frame, refused, socket_to
from tests.waiting import until

MANUAL = (files.CHECKOUT / "docs" / "operations.md").read_text()
TABS = 2  # for each address


class Proxy(Server):
    """A proxy in front of another server, with a configuration that ends up in ``folder``."""

    def __init__(self, folder: Path, before: Server, name: str, changes: Callable[["Proxy"], dict[str, str]]) -> None:
        super().__init__(folder)
        self.password = before.password
        self.before = before
        self._name = name
        self._changes = changes

    def start(self) -> None:
        file, text, command = CONFIGURATIONS[self._name]
        for wanted, here in self._changes(self).items():
            assert text.count(wanted) == 1, wanted
            text = text.replace(wanted, here)
        (self.folder / file).write_text(text)
        program = shutil.which(self._name) or shutil.which(self._name, path="/usr/sbin")
        assert program, f"{self._name} is missing: apt-get install {self._name}"
        with (self.folder / f"{self._name}.log").open("w") as log:
            environ = {"HOME": str(self.folder)}
            command = [word.replace("FILE", str(self.folder / file)) for word in command]
            self._running = subprocess.Popen([*BOUND, program, *command], stdout=log, stderr=log, env=environ)
        until(self._answers)

    def _answers(self) -> bool:
        assert self._running.poll() is None, (self.folder / f"{self._name}.log").read_text()
        try:
            return httpx.get(f"{self.url}/auth/login").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        with self._running as running:
            running.terminate()
            running.wait(DEADLINE)


def block(before: str) -> str:
    """The indented text in the manual that follows the line with ``before``."""
    found = re.search(rf"{re.escape(before)}.*\n\n((?:    .*\n)+)", MANUAL)
    assert found
    return dedent(found[1])


CONFIGURATIONS = {
    "haproxy": ("haproxy.cfg", block("`/etc/haproxy/haproxy.cfg`"), ["-db", "-f", "FILE"]),
    "caddy": (
        "Caddyfile",
        "{\n    admin off\n}\n" + block("`/etc/caddy/Caddyfile`"),
        ["run", "--config", "FILE", "--adapter", "caddyfile"],
    ),
    "nginx": (
        "nginx.conf",
        (files.CHECKOUT / "deploy" / "nginx.conf").read_text(),
        ["-e", "stderr", "-c", "FILE", "-g", "daemon off;"],
    ),
}


def haproxy(proxy: Proxy) -> dict[str, str]:
    server = f"server app1 127.0.0.1:{proxy.before.port}"
    if isinstance(proxy.before, Proxy):
        server += " no-check"  # which does not pass on /readyz
    return {
        "maxconn 20000": "maxconn 100",
        "bind :80": f"bind 127.0.0.1:{proxy.port}",
        "server app1 10.0.0.1:8000": server,
        "server app2 10.0.0.2:8000": "",
    }


def caddy(proxy: Proxy) -> dict[str, str]:
    return {"\nHOST {": f"\n{proxy.url} {{", "10.0.0.1:8000 10.0.0.2:8000": f"127.0.0.1:{proxy.before.port}"}


def nginx(proxy: Proxy) -> dict[str, str]:
    return {
        "server app1:8000": f"server 127.0.0.1:{proxy.before.port}",
        "server app2:8000 max_fails=0;": "",
        "listen 80;": f"listen 127.0.0.1:{proxy.port};",
        "/run/nginx.pid": f"{proxy.folder}/nginx.pid",
        "/var/log/nginx/error.log": f"{proxy.folder}/error.log",
        "/var/log/nginx/access.log": f"{proxy.folder}/access.log",
    }


CHAINS = [
    pytest.param([("haproxy", haproxy)], id="haproxy"),
    pytest.param(
        [("caddy", caddy)],
        id="caddy",
        marks=pytest.mark.skipif(not shutil.which("caddy"), reason="Caddy is not installed"),
    ),
    pytest.param([("nginx", nginx), ("haproxy", haproxy)], id="haproxy-nginx"),
]


@pytest.fixture
def front(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """The outermost proxy of a chain."""
    environ = {"MICROBLOG_TRUSTED_HOPS": str(len(request.param)), "MICROBLOG_TABS_PER_ADDRESS": str(TABS)}
    with ExitStack() as stack:
        server: Server = stack.enter_context(Server(tmp_path, environ=environ))
        for name, changes in request.param:
            server = stack.enter_context(Proxy(tmp_path, server, name, changes))
        yield server


@pytest.mark.parametrize("front", CHAINS, indirect=True)
async def test_proxies_pass_sockets_and_the_address_of_the_client(front: Server) -> None:
    """A client cannot choose its address; another one is counted apart."""
    bob = await asyncio.to_thread(Person, front, "bob")
    headers = ({"X-Forwarded-For": f"192.0.2.{number}"} for number in range(9))
    tabs = [await socket_to(bob, headers=next(headers)) for _ in range(TABS)]
    assert (await refused(socket_to(bob, headers=next(headers)))).response.status_code == 429
    tabs.append(await socket_to(bob, local_addr=("127.0.0.2", 0)))
    for tab in tabs:
        await frame(tab)
        await tab.close()
    for path in ("/metrics", "/readyz"):
        assert (await asyncio.to_thread(bob.client.get, path)).status_code == 404
    bob.close()

"""The shipped configurations of proxies, with only their addresses changed, in real programs."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import TracebackType

import httpx

from microblog_rt import files
from tests.server_process import DEADLINE, Server
from tests.services import BOUND
from tests.waiting import until

MANUAL = (files.CHECKOUT / "docs" / "operations.md").read_text()


class Proxy(Server):
    """``haproxy``, ``caddy``, ``traefik`` or ``nginx`` in front of one or two servers."""

    def __init__(self, folder: Path, name: str, *before: Server) -> None:
        super().__init__(folder)
        self.password = before[0].password
        self.before = before
        self._name = name

    def start(self) -> None:
        file, text, command = CONFIGURATIONS[self._name]
        for wanted, here in CHANGES[self._name](self).items():
            assert text.count(wanted) == 1, wanted
            text = text.replace(wanted, here)
        (self.folder / file).write_text(text)
        folders = f"/usr/sbin:{Path(sys.executable).parent}"  # Traefik is a package of the development environment
        program = shutil.which(self._name) or shutil.which(self._name, path=folders)
        assert program, f"{self._name} is missing: apt-get install {self._name}"
        with (self.folder / f"{self._name}.log").open("w") as log:
            environ = {"HOME": str(self.folder)}
            command = [
                word.replace("FILE", str(self.folder / file)).replace("PORT", str(self.port)) for word in command
            ]
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
    "traefik": (
        "microblog.yaml",
        block("`/etc/traefik/microblog.yaml`"),
        [
            option.replace(":80", "127.0.0.1:PORT").replace("/etc/traefik/microblog.yaml", "FILE")
            for option in block("with these options").split()
        ],
    ),
    "nginx": (
        "nginx.conf",
        (files.CHECKOUT / "deploy" / "nginx.conf").read_text(),
        ["-e", "stderr", "-c", "FILE", "-g", "daemon off;"],
    ),
}


def haproxy(proxy: Proxy) -> dict[str, str]:
    server = f"server app1 127.0.0.1:{proxy.before[0].port}"
    if isinstance(proxy.before[0], Proxy):
        server += " no-check"  # which does not pass on /readyz
    return {
        "maxconn 20000": "maxconn 100",
        "bind :80": f"bind 127.0.0.1:{proxy.port}",
        "server app1 10.0.0.1:8000": server,
        "server app2 10.0.0.2:8000": "",
    }


def caddy(proxy: Proxy) -> dict[str, str]:
    return {"\nHOST {": f"\n{proxy.url} {{", "10.0.0.1:8000 10.0.0.2:8000": f"127.0.0.1:{proxy.before[0].port}"}


def traefik(proxy: Proxy) -> dict[str, str]:
    return {
        "- url: http://10.0.0.1:8000": f"- url: http://127.0.0.1:{proxy.before[0].port}",
        "- url: http://10.0.0.2:8000": "",
    }


def nginx(proxy: Proxy) -> dict[str, str]:
    servers = [f"server 127.0.0.1:{each.port} max_fails=0;" for each in proxy.before]
    return {
        "server app1:8000 max_fails=0;": servers[0],
        "server app2:8000 max_fails=0;": " ".join(servers[1:]),
        "listen 80;": f"listen 127.0.0.1:{proxy.port};",
        "/run/nginx.pid": f"{proxy.folder}/nginx.pid",
        "/var/log/nginx/error.log": f"{proxy.folder}/error.log",
        "/var/log/nginx/access.log": f"{proxy.folder}/access.log",
    }


CHANGES: dict[str, Callable[[Proxy], dict[str, str]]] = {
    "haproxy": haproxy,
    "caddy": caddy,
    "traefik": traefik,
    "nginx": nginx,
}

"""``deploy/nginx.conf``, with only its addresses changed, in a real nginx in front of two app hosts."""

import asyncio
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import httpx
import pytest

from microblog_rt import files, protocol
from microblog_rt.settings import Settings
from microblog_rt.web import static_files
from tests.event_streams import NDJSON, SSE, streaming
from tests.http_connection import Connection
from tests.ports import free_port
from tests.server_process import DEADLINE, Person, Server
from tests.services import BOUND, Redis
from tests.sockets import change, closed, code, frame, socket_to
from tests.waiting import ready, until

SETTINGS = files.CHECKOUT / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
SELF_SIGNED = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
METRICS_TOKEN = "a-token-for-the-metrics"
PLAIN = """
    # server {
    #     listen 80 default_server;
    #     return 301 https://$host$request_uri;
    # }
"""
HEARTBEAT = 0.4  # seconds
HANDSHAKE_HEADERS = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
READ_TIMEOUT = 3  # seconds; longer than 2.5 heartbeats, as in the original, and than a pause of this machine


class Nginx(Server):
    """nginx in front of two app hosts."""

    def __init__(self, folder: Path, first: Server, second: Server) -> None:
        super().__init__(folder)
        assert NGINX, "these tests want an nginx: apt-get install nginx"
        self.password = first.password
        self.tls_port, self.plain_port = free_port(), free_port()
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        subprocess.run([*SELF_SIGNED, "-out", str(certificate), "-keyout", str(key)], check=True, capture_output=True)
        self._command = [NGINX, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
        self._static = TemporaryDirectory()
        os.chmod(self._static.name, 0o755)  # noqa: S103 - nginx's workers are another user's
        static_files.copy(Path(self._static.name) / "static")
        text = SETTINGS.read_text()
        for wanted, here in [
            ("server app1:8000", f"server 127.0.0.1:{first.port}"),
            ("server app2:8000", f"server 127.0.0.1:{second.port}"),
            ("listen 80;", f"listen 127.0.0.1:{self.port};"),
            ("# listen 443 ssl http2;", f"listen 127.0.0.1:{self.tls_port} ssl http2;"),
            ("# ssl_certificate     /etc/letsencrypt/live/HOST/fullchain.pem;", f"ssl_certificate {certificate};"),
            ("# ssl_certificate_key /etc/letsencrypt/live/HOST/privkey.pem;", f"ssl_certificate_key {key};"),
            (PLAIN, PLAIN.replace("# ", "").replace("80 default_server", f"127.0.0.1:{self.plain_port}")),
            ("/run/nginx.pid", f"{folder}/nginx.pid"),
            ("/var/log/nginx/error.log", f"{folder}/error.log"),
            ("/var/log/nginx/access.log", f"{folder}/access.log"),
            ("root /srv/microblog-rt;", f"root {self._static.name};"),
            ("rate=50r/s", "rate=10000r/s"),
            ("proxy_read_timeout 75s;", f"proxy_read_timeout {READ_TIMEOUT}s;"),
        ]:
            assert text.count(wanted) == 1, wanted
            text = text.replace(wanted, here)
        (folder / "nginx.conf").write_text(text)

    def start(self) -> None:
        tried = subprocess.run([*self._command, "-t"], capture_output=True, text=True)
        assert tried.returncode == 0, tried.stderr
        self._running = subprocess.Popen([*BOUND, *self._command, "-g", "daemon off;"])
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url + "/metrics").status_code == httpx.codes.NOT_FOUND
        except httpx.TransportError:
            return False

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        with self._static, self._running as running:
            running.send_signal(signal.SIGTERM)
            running.wait(DEADLINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def hosts(folder: Path) -> Iterator[list[Server]]:
    """Two app hosts: two servers on one database and one Redis."""
    with Redis(folder) as redis:
        environ = {
            "MICROBLOG_BUS_URL": redis.url,
            "MICROBLOG_TRUSTED_HOPS": "1",
            "MICROBLOG_METRICS_TOKEN": METRICS_TOKEN,
            "MICROBLOG_HEARTBEAT": str(HEARTBEAT),
            "MICROBLOG_SWEEP": "3600",
            "MICROBLOG_TABS_PER_ADDRESS": "6",
            "MICROBLOG_DRAIN": "2",
        }
        with Server(folder, environ=environ) as first, Server(folder, environ=environ) as second:
            yield [first, second]


@pytest.fixture(scope="module")
def nginx(folder: Path, hosts: list[Server]) -> Iterator[Nginx]:
    nginx = Nginx(folder, *hosts)
    with nginx:
        yield nginx


@pytest.fixture
def alice(nginx: Nginx) -> Iterator[Person]:
    alice = nginx.person("alice")
    yield alice
    alice.close()


@pytest.fixture
def bob(nginx: Nginx) -> Iterator[Person]:
    bob = nginx.person("bob")
    yield bob
    bob.close()


def tabs_of(host: Server) -> int:
    numbers = httpx.get(f"{host.url}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}).text
    found = re.search(r'microblog_tabs\{transport="websocket"\} (\d+)', numbers)
    assert found
    return int(found[1])


def test_nginx_time_outs_exceed_silent_periods() -> None:
    longest = max(2.5 * Settings().heartbeat, protocol.LONGEST_WAIT)
    (seconds,) = re.findall(r"location = /notifications \{[^}]*proxy_read_timeout (\d+)s;", SETTINGS.read_text())
    assert int(seconds) > longest


async def test_tabs_on_both_hosts_receive_notifications(alice: Person, bob: Person, hosts: list[Server]) -> None:
    """Only heartbeats for longer than nginx's read time-out."""
    tabs = [await socket_to(bob) for _ in range(4)]
    for tab in tabs:
        await frame(tab)
    assert [tabs_of(host) for host in hosts] == [2, 2], "least_conn"
    for _ in range(round(1.2 * READ_TIMEOUT / HEARTBEAT)):
        assert [await frame(tab) for tab in tabs] == [[]] * 4
    await asyncio.to_thread(alice.send, "bob", "hello")
    received = {(await change(tab))[0]["data"] for tab in tabs}
    assert len(received) == 1
    for tab in tabs:
        await tab.close()


@pytest.mark.parametrize("accept", [SSE, NDJSON])
async def test_streams_are_not_buffered(alice: Person, bob: Person, accept: str) -> None:
    """Each line arrives when it is sent, also after heartbeats for longer than nginx's read time-out."""
    await asyncio.to_thread(alice.send, "bob", "before")
    cursor = bob.client.get("/notifications").json()[-1]["timestamp"]
    async with streaming(bob, f"?since={cursor!r}", accept) as stream:
        await stream.opened()
        for _ in range(round(1.2 * READ_TIMEOUT / HEARTBEAT)):
            await stream.heartbeat()
        await asyncio.to_thread(alice.send, "bob", "hello")
        assert (await stream.change())["timestamp"] > cursor


def test_long_poll_is_held_and_answered(bob: Person) -> None:
    cursor = bob.client.get("/notifications").json()[-1]["timestamp"]
    asked = {"since": repr(cursor), "wait": "0.5"}
    answer = bob.client.get("/notifications", params=asked)
    assert (answer.status_code, answer.json()) == (200, [])
    assert answer.elapsed.total_seconds() >= 0.5


async def test_limits_use_the_address_that_nginx_sees(bob: Person) -> None:
    """A client's own X-Forwarded-For is ignored: all these tabs count for one address, at each of two hosts."""
    tabs = []
    for number in range(12):
        tabs.append(await socket_to(bob, headers={"X-Forwarded-For": f"192.0.2.{number}"}))
    refused = await asyncio.to_thread(
        bob.client.get, "/notifications?wait=1", headers={"X-Forwarded-For": "192.0.2.99"}
    )
    assert refused.status_code == 429
    for tab in tabs:
        await tab.close()


def test_browsers_use_http_2_with_a_certificate(nginx: Nginx) -> None:
    with httpx.Client(http2=True, verify=False) as browser:  # noqa: S501
        page = browser.get(f"https://127.0.0.1:{nginx.tls_port}/auth/login")
    assert (page.status_code, page.http_version) == (200, "HTTP/2")


@pytest.mark.parametrize("path", ["/auth/login", "/static/any/css/microblog.css", "/static/any/rt/main.js"])
def test_text_is_compressed(path: str, nginx: Nginx) -> None:
    response = httpx.get(nginx.url + path, headers={"Accept-Encoding": "gzip"})
    assert (response.status_code, response.headers["Content-Encoding"]) == (200, "gzip")
    assert response.num_bytes_downloaded < len(response.content) * 2 / 3


def test_event_streams_are_not_compressed() -> None:
    (types,) = re.findall(r"gzip_types ([^;]*);", SETTINGS.read_text())
    assert "image/svg+xml" in types.split()
    assert not {"text/event-stream", "application/x-ndjson", "*"} & set(types.split())


ANONYMOUS, POSTERS, POSTS = 20, 4, 2000


async def test_refused_handshakes_do_not_break_posts(nginx: Nginx) -> None:
    """nginx would keep a connection whose end is not announced, and send the next POST into it: 502."""
    asyncio.get_running_loop().set_debug(False)
    statuses: Counter[int] = Counter()
    posted = asyncio.Semaphore(0)

    async def shake_hands() -> None:
        connection = Connection(nginx.port)
        for _ in range(POSTS // ANONYMOUS):
            await posted.acquire()
            answer = await connection.request("GET", "/notifications", HANDSHAKE_HEADERS, seconds=DEADLINE)
            assert answer.status == 401
        connection.drop()

    async def post() -> None:
        connection = Connection(nginx.port)
        for _ in range(POSTS // POSTERS):
            answer = await connection.request("POST", "/notifications", {}, b"a=b", seconds=DEADLINE)
            statuses[answer.status] += 1
            posted.release()
        connection.drop()

    async with asyncio.TaskGroup() as group:
        for task in [shake_hands] * ANONYMOUS + [post] * POSTERS:
            group.create_task(task())
    assert statuses == {405: POSTS}


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
def test_operators_paths_are_not_served_through_nginx(path: str, nginx: Nginx) -> None:
    assert httpx.get(nginx.url + path).status_code == 404


def test_static_files_are_served_by_nginx(nginx: Nginx) -> None:
    """The app would add a content security policy."""
    page = httpx.get(f"{nginx.url}/auth/login").text
    (style,) = re.findall(r'href="(/static/[^"]+/microblog.css)"', page)
    answer = httpx.get(nginx.url + style)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/css")
    assert answer.headers["Cache-Control"] == "max-age=31536000, immutable"
    assert "Content-Security-Policy" not in answer.headers
    missing = httpx.get(f"{nginx.url}/static/nothing.js")
    assert (missing.status_code, "Content-Security-Policy" in missing.headers) == (404, True)


TARGETS = [("http://evil.example/auth/login", 400), ("http://127.0.0.1/auth/login", 200), ("/auth/login", 200)]


@pytest.mark.parametrize(("target", "status"), TARGETS)
def test_absolute_target_must_name_the_host(target: str, status: int, nginx: Nginx) -> None:
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=DEADLINE) as client:
        host = f"Host: 127.0.0.1:{nginx.port}" if target.startswith("/") else "Host: 127.0.0.1"
        client.sendall(f"GET {target} HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n".encode())
        assert client.recv(12) == f"HTTP/1.1 {status}".encode()


def test_plain_http_leads_to_https(nginx: Nginx) -> None:
    answer = httpx.get(f"http://127.0.0.1:{nginx.plain_port}/auth/login?next=/")
    assert (answer.status_code, answer.headers["Location"]) == (301, "https://127.0.0.1/auth/login?next=/")


def test_old_tls_is_refused(nginx: Nginx) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", nginx.tls_port), timeout=DEADLINE) as client,
        pytest.raises(ssl.SSLError, match="version"),
    ):
        context.wrap_socket(client)


async def test_draining_host_keeps_clients_on_the_other(alice: Person, bob: Person, hosts: list[Server]) -> None:
    """Tabs reconnect at once and are accepted, sends succeed; with no host left the 503 says when to retry."""
    first, second = hosts
    tabs = [await socket_to(bob) for _ in range(8)]
    for tab in tabs:
        await frame(tab)
    first.signal(signal.SIGTERM)
    ended, _ = await asyncio.wait([asyncio.create_task(closed(tab)) for tab in tabs], return_when="FIRST_COMPLETED")
    assert code(ended.pop().result()) == 1012
    assert not ready(first)
    for _ in range(4):
        tab = await socket_to(bob)
        await frame(tab)
        await tab.close()
        await asyncio.to_thread(alice.send, "bob", "meanwhile")
    second.signal(signal.SIGTERM)
    await asyncio.to_thread(until, lambda: not ready(second))
    answer = await asyncio.to_thread(bob.client.get, "/notifications?wait=1")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) >= 1
    assert [await asyncio.to_thread(each.ended) for each in hosts] == [0, 0]

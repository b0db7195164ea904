"""Below ``/badge/`` of another site in a real nginx: pages, every transport, the Python client and the command line."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from microblog_rt.client import SyncClient
from microblog_rt.client.events import BEST_FIRST
from tests.command_line import Folder
from tests.http_client import Person
from tests.other_site import ENVIRON, PREFIX, OtherSite
from tests.server_process import AsgiServer, Server
from tests.sockets import change, frame, socket_to
from tests.token_users import BUS, TokenUser, token_user


@pytest.fixture(scope="module", params=[Server, AsgiServer])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Our application, with the push edge and under another ASGI server."""
    with request.param(tmp_path_factory.mktemp("server"), environ=ENVIRON | BUS) as server:
        yield server
    assert "Traceback" not in server.logged()


@pytest.fixture(scope="module")
def site(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherSite]:
    with OtherSite(tmp_path_factory.mktemp("nginx"), server) as site:
        yield site


def tokens(server: Server, site: OtherSite) -> tuple[TokenUser, TokenUser]:
    """Two new users, whose requests go through nginx."""
    alice, bob = (token_user(server)._replace(server=site) for _ in range(2))
    return alice, bob


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/auth/login", 404),
        ("/notifications", 404),
        ("/healthz", 404),
        (f"{PREFIX}foo/", 404),
        (f"{PREFIX}/auth/login", 200),
        (f"{PREFIX}/notifications", 401),
        (f"{PREFIX}/healthz", 200),
        (f"{PREFIX}/readyz", 404),
        (f"{PREFIX}/metrics", 404),
    ],
)
def test_each_site_answers_its_own_paths(site: OtherSite, path: str, status: int) -> None:
    found = httpx.get(site.root + path)
    assert found.status_code == status
    assert ("microblog_" in found.headers.get("Set-Cookie", "")) == (path == f"{PREFIX}/auth/login")


def test_prefix_alone_leads_to_the_home_page(site: OtherSite) -> None:
    page = httpx.get(site.url, follow_redirects=True)
    assert (page.status_code, str(page.url)) == (200, f"{site.url}/")


async def test_tab_counts_messages_and_their_reading(site: OtherSite) -> None:
    alice, bob = [await asyncio.to_thread(Person, site, name) for name in ("alice", "bob")]
    tab = await socket_to(bob)
    assert await frame(tab) == []
    counts = []
    for act in (lambda: alice.send("bob", "one"), lambda: alice.send("bob", "two"), lambda: bob.post("/messages/read")):
        await asyncio.to_thread(act)
        counts.append((await change(tab))[-1]["data"])
    assert counts == [1, 2, 0]
    page = await asyncio.to_thread(bob.client.get, "/messages")
    (style,) = re.findall(r'href="([^"]+/microblog.css)"', page.text)
    assert (await asyncio.to_thread(httpx.get, site.root + style)).status_code == 200
    await tab.close()
    for person in (alice, bob):
        person.close()


@pytest.mark.parametrize("transport", BEST_FIRST)
def test_python_client_receives_0_1_2_0(server: Server, site: OtherSite, transport: str) -> None:
    alice, bob = tokens(server, site)
    alice.send(bob, "one")
    bob.read_all()
    with SyncClient(site.url, alice.token) as sender, SyncClient(site.url, bob.token, transports=[transport]) as client:
        received = client.notifications(names=["unread_message_count"])
        counts = [next(received).data]
        for text in ("two", "three"):
            sender.send(bob.name, text)
            counts.append(next(received).data)
        client.mark_read()
        counts.append(next(received).data)
    assert counts == [0, 1, 2, 0]


def test_commands_use_an_address_with_a_path(server: Server, site: OtherSite, tmp_path: Path) -> None:
    alice, bob = tokens(server, site)
    folder, address = Folder(tmp_path), ["--url", site.url]
    sent = folder.run("send", bob.name, "hello", *address, MICROBLOG_TOKEN=alice.token)
    assert sent.returncode == 0, sent.stderr
    status = folder.run("status", *address, MICROBLOG_TOKEN=bob.token)
    assert (status.returncode, status.stdout.count("works, ")) == (0, len(BEST_FIRST)), status.stdout
    # The command that it starts ends it.
    heard = folder.run("listen", *address, "--exec", "cat > heard; kill -INT $PPID", MICROBLOG_TOKEN=bob.token)
    assert heard.returncode == 130, heard.stderr
    assert json.loads((tmp_path / "heard").read_text())["data"] == 1


def test_proxy_that_removes_the_prefix_is_named_in_the_log(server: Server) -> None:
    """As it would arrive from there; the answer says which address is right."""
    found = httpx.get(f"http://127.0.0.1:{server.port}/auth/login")
    assert (found.status_code, found.json()["code"]) == (404, "not_found")
    assert f"{PREFIX}/" in found.json()["detail"]
    assert "which is not below MICROBLOG_PATH_PREFIX=/badge" in server.logged()

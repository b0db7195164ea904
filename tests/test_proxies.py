"""The proxies of ``docs/operations.md`` as real programs, and nginx behind HAProxy or nginx."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.proxies import Proxy
from tests.server_process import Person, Server
from tests.sockets import frame, refused, socket_to

TABS = 2  # for each address

CHAINS = [
    pytest.param(["haproxy"], id="haproxy"),
    pytest.param(["caddy"], id="caddy"),
    pytest.param(["traefik"], id="traefik"),
    pytest.param(["nginx", "haproxy"], id="haproxy-nginx"),
    pytest.param(["nginx", "nginx"], id="nginx-nginx"),
]


@pytest.fixture
def front(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """The outermost proxy of a chain."""
    environ = {"MICROBLOG_TRUSTED_HOPS": str(len(request.param)), "MICROBLOG_TABS_PER_ADDRESS": str(TABS)}
    with ExitStack() as stack:
        server: Server = stack.enter_context(Server(tmp_path, environ=environ))
        for number, name in enumerate(request.param):
            folder = tmp_path / f"proxy{number}"
            folder.mkdir()
            server = stack.enter_context(Proxy(folder, name, server))
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

"""The proxy: while it is down, it forwards nothing."""

import asyncio
import socket

import pytest

from tests.browser.proxy import HOST, Proxy
from tests.server_process import DEADLINE, Server

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("turns", range(6))
async def test_down_closes_connection_just_being_accepted(server: Server, turns: int) -> None:
    async with Proxy(server.port) as proxy:
        with socket.create_connection((HOST, int(proxy.url.rpartition(":")[2]))) as browser:
            browser.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            await proxy.down()
            assert not await _response(browser)


async def _response(browser: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DEADLINE):
            await loop.sock_sendall(browser, REQUEST)
            return await loop.sock_recv(browser, 1000)
    except ConnectionError:
        return b""

"""The proxy itself: when it is down, nothing passes. Not here: what pages make of that."""

import asyncio
import socket

import pytest

from tests.browser.proxy import HOST, Proxy
from tests.server_process import DEADLINE, Server

ASKED = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_that_was_just_being_accepted_goes_down_too(server: Server, turns: int) -> None:
    async with Proxy(server.port) as proxy:
        with socket.create_connection((HOST, int(proxy.url.rpartition(":")[2]))) as browser:
            browser.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            await proxy.down()
            assert not await _answer(browser)


async def _answer(browser: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DEADLINE):
            await loop.sock_sendall(browser, ASKED)
            return await loop.sock_recv(browser, 1000)
    except ConnectionError:
        return b""

"""The receiver of webhooks: a signed POST to an address that was checked.

The name is resolved for each POST, and the connection goes to the very addresses that were checked, one after the other
until one accepts it: a name that resolves differently the next time cannot lead into a private network.
"""

import asyncio
import hashlib
import hmac
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from types import TracebackType
from typing import Self

import httpx

from microblog_rt import __version__
from microblog_rt.keys import split_keys
from microblog_rt.settings import Settings
from microblog_rt.timeouts import Timeouts

SIGNATURE = "Microblog-Signature"
RESPONSE_LIMIT = 4096  # bytes of a response's body that are read

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Failed(Exception):
    """A POST was not accepted, or not possible."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host. Raises OSError, UnicodeError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Receiver:
    """The receiver at ``webhook_url``; close it by leaving its context."""

    def __init__(self, settings: Settings, timeouts: Timeouts = Timeouts(), resolve: Resolve = resolve) -> None:
        self._url = httpx.URL(settings.webhook_url or "")
        self._secrets = split_keys(settings.webhook_secret or "")
        self._private = settings.webhook_private
        self._timeouts = timeouts
        self._resolve = resolve
        self._client = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(timeouts.webhook_post, connect=timeouts.webhook_post / 3),
            verify=ssl.create_default_context(),
        )

    async def post(self, body: bytes) -> None:
        """Sign and POST ``body``. Raises Failed unless the receiver answers with a status of 2xx in time."""
        try:
            async with asyncio.timeout(self._timeouts.webhook_post):
                status = await self._post(body)
        except TimeoutError:
            raise Failed(f"no answer within {self._timeouts.webhook_post:g} s") from None
        except (httpx.HTTPError, OSError, UnicodeError) as error:
            raise Failed(str(error) or type(error).__name__) from None
        if not 200 <= status < 300:
            raise Failed(f"status {status}")

    async def _post(self, body: bytes) -> int:
        url = self._url
        headers = {
            "Host": url.netloc.decode(),
            "Content-Type": "application/json",
            "User-Agent": f"microblog-rt/{__version__}",
            SIGNATURE: signature(self._secrets, int(time.time()), body),
        }
        *others, last = await self._addresses(url.host, url.port or (443 if url.scheme == "https" else 80))
        for address in others:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._post_to(address, headers, body)
        return await self._post_to(last, headers, body)

    async def _post_to(self, address: str, headers: dict[str, str], body: bytes) -> int:
        pinned = self._url.copy_with(host=address)
        names = {"sni_hostname": self._url.host}
        async with self._client.stream("POST", pinned, content=body, headers=headers, extensions=names) as response:
            read = 0
            async for part in response.aiter_raw(RESPONSE_LIMIT):
                read += len(part)
                if read >= RESPONSE_LIMIT:
                    break
            return response.status_code

    async def _addresses(self, host: str, port: int) -> list[str]:
        found = [each for each in await self._resolve(host, port) if self._private or is_public(each)]
        if not found:
            raise Failed(f"{host} has no public address, and MICROBLOG_WEBHOOK_PRIVATE is not 1")
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await self._client.aclose()


def signature(secrets: Sequence[str], timestamp: int, body: bytes) -> str:
    """The value of the header ``Microblog-Signature``, with a signature by each secret."""
    signed = b"%d." % timestamp + body
    found = [f"v1={hmac.new(each.encode(), signed, hashlib.sha256).hexdigest()}" for each in secrets]
    return ",".join([f"t={timestamp}", *found])


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet, also one that contains another address."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is not None:
            return parsed.ipv4_mapped is not None and is_public(str(inner))
        if parsed.teredo is not None or parsed.is_site_local:
            return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified)

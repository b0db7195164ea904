"""Users of a real server with access tokens, made in its database: they do not sign in, which takes long.

    alice, bob = token_user(server), token_user(server)
    alice.send(bob, "hello")
    async with bob.client() as client: ...

A server on ``sqlite://`` notices at once what is changed here, as ``revoke``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple, TypeVar

import httpx

from microblog_rt.client import Client
from microblog_rt.models import SCOPES
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from tests.server_process import DEADLINE, Server

BUS = {"MICROBLOG_BUS_URL": "sqlite://"}
KEY = "a-key-for-tests-alone-long-enough"

T = TypeVar("T")
_numbers = count(1)


class TokenUser(NamedTuple):
    """A user with a token; the requests are synchronous."""

    server: Server
    name: str
    token: str

    def client(self, url: str | None = None, **options: Any) -> Client:
        """A client of the server, or of a proxy at ``url``."""
        return Client(url or self.server.url, self.token, **options)

    def send(self, recipient: "TokenUser", text: str) -> None:
        """Send a message."""
        self.call("POST", "/api/v1/messages", json={"recipient": recipient.name, "body": text})

    def read_all(self) -> None:
        """Mark all messages as read."""
        self.call("POST", "/api/v1/messages/read", json={"all": True})

    def state(self) -> dict[str, Any]:
        """The data of the user's notifications by name, from a poll."""
        return {each["name"]: each["data"] for each in self.call("GET", "/notifications")}

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of the response; raises httpx.HTTPStatusError."""
        headers = {"Authorization": f"Bearer {self.token}"}
        # ``verify`` saves the time to load certificates.
        with httpx.Client(base_url=self.server.url, headers=headers, timeout=DEADLINE, verify=False) as client:  # noqa: S501
            return client.request(method, path, **options).raise_for_status().json()

    def revoke(self) -> None:
        """Revoke the user's tokens."""

        async def work(services: Services) -> None:
            user = await services.accounts.known(self.name)
            for each in await services.tokens.of_user(user.id):
                await services.tokens.revoke_id(each.id)

        _run(self.server, work)


def token_user(server: Server, *scopes: str, name: str = "") -> TokenUser:
    """A new user, or the one of that name, with a token; by default with every scope."""
    name = name or f"user{next(_numbers)}"

    async def work(services: Services) -> str:
        user = await services.accounts.find(name) or await services.accounts.register(name, "correct horse")
        return await services.tokens.add(user, "test", scopes or SCOPES)

    return TokenUser(server, name, _run(server, work))


def _run(server: Server, work: Callable[[Services], Awaitable[T]]) -> T:
    """Do ``work`` with the services of the server's database, in this process."""
    default = f"sqlite+aiosqlite:///{server.folder}/microblog.db"
    url = server.environ.get("MICROBLOG_DATABASE_URL", default)
    bus = server.environ.get("MICROBLOG_BUS_URL", "memory://")

    async def run() -> T:
        services = assemble(replace(Settings(), database_url=url, bus_url=bus, secret_key=KEY))
        try:
            return await work(services)
        finally:
            await services.close()

    return asyncio.run(run())

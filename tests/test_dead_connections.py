"""Connections to PostgreSQL that died in silence, and prepared statements that a change of the schema made invalid."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from microblog_rt.errors import Unavailable
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import migrations
from microblog_rt.timeouts import Timeouts
from tests.clients import signed_in
from tests.conftest import KEY, PASSWORD
from tests.proof.tcp_proxy import TcpProxy
from tests.services import PostgreSQL


class Firewall(TcpProxy):
    """A relay that can forget the connections it has: it drops what they send, and relays new ones."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._generation = 0

    def forget(self) -> None:
        self._generation += 1

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        subscribed: asyncio.Event,
        *,
        from_client: bool,
    ) -> None:
        generation = self._generation
        while data := await reader.read(65536):
            if generation == self._generation:
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def behind_firewall(url: str, port: int, timeouts: Timeouts) -> AsyncIterator[tuple[Services, Firewall]]:
    """Services whose ten connections to the database are open."""
    firewall = Firewall(port)
    async with firewall:
        relayed = url.replace(f":{port}/", ":" + firewall.url.rpartition(":")[2].partition("/")[0] + "/")
        services = assemble(Settings(database_url=relayed, secret_key=KEY, send_limit=None), timeouts)
        await asyncio.gather(*(services.accounts.find("susan") for _ in range(5)), *(write(services) for _ in range(5)))
        yield services, firewall
        await services.close()


async def write(services: Services) -> None:
    await services.storage.write(lambda tx: tx.exec_driver_sql("SELECT pg_sleep(0.05)").all())


async def refused(services: Services, requests: int) -> int:
    """How many of so many reads and writes, one after the other, are refused."""
    refusals = 0
    for number in range(requests):
        try:
            await (write(services) if number % 2 else services.accounts.find("susan"))
        except Unavailable:
            refusals += 1
    return refusals


@pytest.mark.parametrize(
    ("timeouts", "most"),
    [(Timeouts(), 1), (Timeouts(postgres_idle=0), 0)],
    ids=["forgotten while in use", "forgotten while idle"],
)
async def test_forgotten_connections_cost_one_refusal(
    postgresql: PostgreSQL, postgresql_emptied: str, timeouts: Timeouts, most: int
) -> None:
    async with behind_firewall(postgresql_emptied, postgresql.port, timeouts) as (services, firewall):
        firewall.forget()
        assert await refused(services, 24) <= most
        assert await refused(services, 24) == 0


async def test_connections_have_keep_alives(postgresql_emptied: str) -> None:
    services = assemble(Settings(database_url=postgresql_emptied, secret_key=KEY))
    async with services.storage.feed_read() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        raw = driver._transport.get_extra_info("socket")
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    await services.close()


async def test_changed_schema_fails_no_request(postgresql: PostgreSQL) -> None:
    """A migration while the previous version serves: its prepared statements must not change their result."""
    url = postgresql.database()
    await asyncio.to_thread(migrations.upgrade, url)
    services = assemble(Settings(database_url=url, secret_key=KEY))
    susan = await services.accounts.register("susan", PASSWORD)
    reader = await signed_in(services, susan)

    async def use() -> None:
        await services.accounts.find("susan")
        assert await services.sessions.visit(reader)
        await services.messages.send_message(susan.id, susan.id, "hello")
        await services.feed.page(reader, 0)

    await use()
    statements = [
        'ALTER TABLE "user" ALTER COLUMN username TYPE text',
        "ALTER TABLE session ALTER COLUMN device TYPE text",
        "ALTER TABLE mailbox ALTER COLUMN unread_message_count TYPE bigint",
        "ALTER TABLE notification ALTER COLUMN name TYPE text",
    ]
    for statement in statements:
        await asyncio.to_thread(postgresql.execute, url, statement)
        await use()
    await services.close()

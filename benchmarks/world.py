"""A database with signed-in users, created once by the product's services; each run starts a server on a copy.

The copy is always in the same folder, since the names of cookies depend on it.
"""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from quart import Quart
from tests.server_process import Server

from microblog_rt.app import create_app
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.storage import migrations
from microblog_rt.web.authentication import Authentication

SUBSCRIBERS = 100
ABSENT = 100
SENDERS = 8
PREFIX = "microblog-benchmark-"

UNLIMITED = {
    "MICROBLOG_TABS_PER_USER": "",
    "MICROBLOG_TABS_PER_ADDRESS": "",
    "MICROBLOG_CONNECTIONS_PER_ADDRESS": "",
    "MICROBLOG_SEND_LIMIT": "",
}


class Person(NamedTuple):
    """A signed-in user: the name and the Cookie header."""

    name: str
    cookie: str


class World(NamedTuple):
    """The folder with the database, the one that servers use, and the users; ``absent`` ones never have a tab open."""

    folder: Path
    served: Path
    subscribers: list[Person]
    absent: list[Person]
    senders: list[Person]

    @contextmanager
    def serving(self, **environ: str) -> Iterator[tuple[Server, int]]:
        """Start a server on a copy of this world; yields it and its process id, and stops it on exit."""
        shutil.copytree(self.folder, self.served)
        try:
            with Server(self.served, environ=UNLIMITED | environ) as server:
                assert server.process is not None
                yield server, server.process.pid
            assert "Traceback" not in server.logged(), server.logged()
        finally:
            shutil.rmtree(self.served)


@contextmanager
def world() -> Iterator[World]:
    """Create a world in a temporary folder."""
    with TemporaryDirectory(prefix=PREFIX) as folder:
        served = Path(folder) / "served"
        served.mkdir()
        groups = asyncio.run(_create(served))
        yield World(served.rename(Path(folder) / "saved"), served, *groups)


async def _create(folder: Path) -> list[list[Person]]:
    url = f"sqlite+aiosqlite:///{folder}/microblog.db"
    migrations.upgrade(url)
    app = create_app(Settings(database_url=url))
    services: Services = app.extensions["services"]
    try:
        groups = [("subscriber", SUBSCRIBERS), ("absent", ABSENT), ("sender", SENDERS)]
        return [await _group(app, services, role, count) for role, count in groups]
    finally:
        await services.storage.close()


async def _group(app: Quart, services: Services, role: str, count: int) -> list[Person]:
    return await asyncio.gather(*[_signed_in(app, services, f"{role}{n}") for n in range(count)])


async def _signed_in(app: Quart, services: Services, name: str) -> Person:
    authentication: Authentication = app.extensions["authentication"]
    user = await services.accounts.register(name, "a password for benchmarks")
    token = await services.sessions.start_session(user, remembered=True)
    return Person(name, f"{authentication.cookie_name}={authentication.dump_token(f'{user.id}.{token}', app)}")

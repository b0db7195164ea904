"""A database with signed-in users, created once by the product's services; each run starts a server on a copy.

On SQLite it is a file in a folder, on PostgreSQL a template database. A copy always has the same address as the
original had, since the names of cookies depend on it.
"""

import asyncio
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from quart import Quart
from tests.server_process import Server
from tests.services import PostgreSQL

from benchmarks.sizes import FULL, Sizes
from microblog_rt.accounts import token_hash
from microblog_rt.app import create_app
from microblog_rt.models import SCOPES, TOKEN_ID_LENGTH, User
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.storage import Transaction, accounts, migrations, tokens
from microblog_rt.web.authentication import Authentication

SUBSCRIBERS = 2000
ABSENT = 100
SENDERS = 16
PREFIX = "microblog-benchmark-"
SECRET = secrets.token_hex(16)
# As the package of Debian configures it, but for the memory, which is small there.
POSTGRESQL = ("-c", "fsync=on", "-c", "shared_buffers=256MB", "-c", "max_connections=200")

UNLIMITED = {
    "MICROBLOG_SECRET_KEY": SECRET,
    "MICROBLOG_TABS_PER_USER": "",
    "MICROBLOG_TABS_PER_ADDRESS": "",
    "MICROBLOG_CONNECTIONS_PER_ADDRESS": "",
    "MICROBLOG_SEND_LIMIT": "",
}


class Person(NamedTuple):
    """A signed-in user: the name, the Cookie header, and an access token with every scope."""

    name: str
    cookie: str
    token: str = ""


# Makes a copy of a database: yields the settings of a server that uses it, and deletes it on exit.
Copy = Callable[[], AbstractContextManager[dict[str, str]]]


class World(NamedTuple):
    """The folder that servers run in, the database, and the users; ``absent`` ones never have a tab open."""

    folder: Path
    copy: Copy
    subscribers: list[Person]
    absent: list[Person]
    senders: list[Person]
    sizes: Sizes = FULL

    @contextmanager
    def serving(self, *options: str, **environ: str) -> Iterator[tuple[Server, int]]:
        """Start a server on a copy of this world; yields it and its process id, and stops it on exit."""
        with self.copy() as database, self.another(*options, **database, **environ) as server:
            yield server

    @contextmanager
    def another(self, *options: str, **environ: str) -> Iterator[tuple[Server, int]]:
        """Start a server with these settings."""
        self.folder.mkdir(exist_ok=True)
        with Server(self.folder, *options, environ=UNLIMITED | environ) as server:
            assert server.process is not None
            yield server, server.process.pid
        assert "Traceback" not in server.logged(), server.logged()


@contextmanager
def world(sizes: Sizes = FULL) -> Iterator[World]:
    """Create a world on SQLite in a temporary folder."""
    with TemporaryDirectory(prefix=PREFIX) as folder:
        served, saved = Path(folder) / "served", Path(folder) / "saved"
        served.mkdir()
        groups = asyncio.run(_create(f"sqlite+aiosqlite:///{served}/microblog.db"))
        served.rename(saved)

        @contextmanager
        def copy() -> Iterator[dict[str, str]]:
            shutil.copytree(saved, served)
            try:
                yield {}
            finally:
                shutil.rmtree(served)

        yield World(served, copy, *groups, sizes)


@contextmanager
def on_postgresql(sizes: Sizes = FULL, *options: str) -> Iterator[World]:
    """Create a world on a new PostgreSQL server."""
    with TemporaryDirectory(prefix=PREFIX) as folder, PostgreSQL(*POSTGRESQL, *options) as server:
        url = server.database()
        name = url.rpartition("/")[2]
        groups = asyncio.run(_create(url))
        server.execute(server.url, f"ALTER DATABASE {name} RENAME TO world")

        @contextmanager
        def copy() -> Iterator[dict[str, str]]:
            server.execute(server.url, f"CREATE DATABASE {name} TEMPLATE world")
            try:
                yield {"MICROBLOG_DATABASE_URL": url, "MICROBLOG_BUS_URL": "postgresql://"}
            finally:
                server.execute(server.url, f"DROP DATABASE {name} WITH (FORCE)")

        yield World(Path(folder), copy, *groups, sizes)


async def _create(url: str) -> tuple[list[Person], list[Person], list[Person]]:
    await asyncio.to_thread(migrations.upgrade, url)
    app = create_app(Settings(database_url=url, secret_key=SECRET))
    services: Services = app.extensions["services"]
    try:
        return (
            await _group(app, services, "subscriber", SUBSCRIBERS),
            await _group(app, services, "absent", ABSENT),
            await _group(app, services, "sender", SENDERS),
        )
    finally:
        await services.close()


async def _group(app: Quart, services: Services, role: str, count: int) -> list[Person]:
    """Users without a password: hashing thousands would take a minute."""

    def insert(tx: Transaction) -> list[Person]:
        return [_added(tx, app, services, f"{role}{number}") for number in range(count)]

    return await services.storage.write(insert)


def _added(tx: Transaction, app: Quart, services: Services, name: str) -> Person:
    authentication: Authentication = app.extensions["authentication"]
    user = User(username=name, username_key=name, email=None, password_hash="")
    accounts.add(tx, user)
    token = secrets.token_urlsafe(32)
    services.sessions.insert(tx, user.id, token, remembered=True, device="")
    cookie = f"{authentication.cookie_name}={authentication.dump_token(f'{user.id}.{token}', app)}"
    columns = {"id": f"{user.id:032x}"[-TOKEN_ID_LENGTH:], "user_id": user.id, "name": name, "scopes": " ".join(SCOPES)}
    tokens.add(tx, None, token_hash=token_hash(token), **columns)
    return Person(name, cookie, f"mbrt_{user.id}_{token}")

"""Starts the Flask peer under gunicorn with two workers, and signs its users in through its form."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.ports import free_port
from tests.services import PostgreSQL

from benchmarks.browser import TOKEN, connected
from benchmarks.peers.process import running
from benchmarks.world import POSTGRESQL, PREFIX, Person
from microblog_rt.files import CHECKOUT

NAME = "Flask"
PASSWORD = "a password for benchmarks"  # as in flask_app.py
WORKERS = 2


class Running(NamedTuple):
    """The Flask peer while it runs."""

    port: int
    pid: int


@contextmanager
def on_sqlite() -> Iterator[Running]:
    """Start it with an SQLite file."""
    with TemporaryDirectory(prefix=PREFIX) as folder, _serving(Path(folder), f"sqlite:///{folder}/app.db") as flask:
        yield flask


@contextmanager
def on_postgresql() -> Iterator[Running]:
    """Start it with a PostgreSQL server of its own."""
    with TemporaryDirectory(prefix=PREFIX) as folder, PostgreSQL(*POSTGRESQL) as server:
        url = server.database().replace("+asyncpg", "+psycopg")
        with _serving(Path(folder), url) as flask:
            yield flask


@contextmanager
def _serving(folder: Path, url: str) -> Iterator[Running]:
    environ = {"DATABASE_URL": url, "SECRET_KEY": secrets.token_hex()}
    create = [sys.executable, "-m", "benchmarks.peers.flask_app"]
    subprocess.run(create, env=os.environ | environ, cwd=CHECKOUT, check=True)
    port = free_port()
    gunicorn = [sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--bind", f"127.0.0.1:{port}"]
    with running([*gunicorn, "benchmarks.peers.flask_app:app"], folder, port, **environ) as pid:
        yield Running(port, pid)


async def sign_in(flask: Running, name: str) -> Person:
    """The user with the cookie of a new session."""
    with connected(flask.port) as browser:
        page = await browser.get("/login", "")
        token = TOKEN.search(page.body.decode())
        assert token, page
        cookie = page.header("Set-Cookie").partition(";")[0]
        answer = await browser.post("/login", cookie, csrf_token=token[1], username=name, password=PASSWORD)
        assert answer.status == 302, answer
        return Person(name, answer.header("Set-Cookie").partition(";")[0])

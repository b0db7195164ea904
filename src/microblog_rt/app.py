"""The composition root: settings in, an application with all its services out. Everything is wired here alone."""

import asyncio
import contextlib
import logging
import os
import secrets
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from quart import Quart

from microblog_rt import bus, metrics, web
from microblog_rt.accounts import Accounts
from microblog_rt.errors import Misconfigured, Unavailable
from microblog_rt.services import assemble
from microblog_rt.settings import SECRET_KEY_LENGTH, Settings

log = logging.getLogger(__name__)

TIDIED_EVERY = 60.0  # seconds
OBSERVED_EVERY = 1.0  # seconds
FIRST_WORD = 2.5  # seconds; more than a bus gives its first attempt


def create_app(settings: Settings) -> Quart:
    """The ASGI application; the database must be at the newest revision."""
    services = assemble(settings)
    app = web.create(settings, secret_key(settings), services)

    @app.while_serving
    async def living() -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(services.close)
            await stack.enter_async_context(_running(services.feed.receive(services.bus)))
            await stack.enter_async_context(_running(services.feed.sweep(settings.sweep)))
            await stack.enter_async_context(_running(_tidied(services.accounts)))
            await _listening(services.bus)
            await stack.enter_async_context(_running(_observed(services.bus)))
            yield

    return app


async def _observed(the_bus: bus.Bus) -> None:
    metrics.WORKERS.set(1)
    try:
        while True:
            metrics.HEARING.set(the_bus.health().state in ("heard", "alone"))
            await asyncio.sleep(OBSERVED_EVERY)
    finally:
        metrics.WORKERS.set(0)
        metrics.HEARING.set(0)


async def _tidied(accounts: Accounts) -> None:
    while True:
        await asyncio.sleep(TIDIED_EVERY)
        try:
            await accounts.forget_expired()
        except Unavailable:
            pass  # it can wait
        except Exception:
            log.exception("what has expired was not forgotten; it goes on")


def secret_key(settings: Settings) -> str:
    """The key that signs cookies: the one set, or one made once and kept beside the SQLite file."""
    if settings.secret_key is not None:
        return settings.secret_key
    if settings.sqlite_file is None:
        raise Misconfigured("MICROBLOG_SECRET_KEY: needed with this database; set it to something long and random")
    return _kept_key(settings.sqlite_file.with_name(settings.sqlite_file.name + ".key"))


def _kept_key(path: Path) -> str:
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_text().strip()
    except OSError as error:
        raise Misconfigured(f"no key can be kept at {path}: {error.strerror}; or set MICROBLOG_SECRET_KEY") from None
    if len(key) < SECRET_KEY_LENGTH:
        raise Misconfigured(f"{path} holds no key; delete it, and a new one will be made (all sign-ins end)")
    return key


def _make_key(path: Path) -> None:
    # Written aside and linked into place: nobody ever reads half a key, and of two the first one wins.
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    finally:
        os.unlink(aside)


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _listening(the_bus: bus.Bus) -> None:
    # Who is served from here on misses nothing; without its broker a server serves all the same.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_WORD):
            await the_bus.connected.wait()

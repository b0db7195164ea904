"""The composition root: settings in, an ASGI application with its background tasks out."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from quart import Quart

from microblog_rt import metrics, web
from microblog_rt.bus import Bus
from microblog_rt.errors import TooMany, Unavailable
from microblog_rt.secret_key import secret_keys
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import limits
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)

Task = Callable[[Services], Coroutine[Any, Any, None]]


def create_app(settings: Settings, timeouts: Timeouts = Timeouts(), tasks: Iterable[Task] = ()) -> Quart:
    """The ASGI application; the database must be at the newest revision.

    Background tasks, and the additional ``tasks``, run between lifespan start-up and shutdown.
    ``extensions["services"]`` holds the services.
    """
    services = assemble(settings, timeouts)
    app = web.create(settings, secret_keys(settings), services)

    @app.while_serving
    async def background() -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(services.close)
            await stack.enter_async_context(_running(services.feed.receive(services.bus)))
            await stack.enter_async_context(_running(services.feed.sweep(settings.sweep)))
            await stack.enter_async_context(_running(services.deliveries.run(settings.sweep)))
            await stack.enter_async_context(_running(_delete_expired(services, timeouts.cleanup)))
            if settings.webhook_url is not None:
                await stack.enter_async_context(_running(_webhooks(services, settings, timeouts)))
            await _connected(services.bus, timeouts.bus_start)
            await stack.enter_async_context(_running(_measure(services.bus, timeouts.measure)))
            for task in tasks:
                await stack.enter_async_context(_running(task(services)))
            yield

    return app


async def _measure(bus: Bus, every: float) -> None:
    metrics.WORKERS.set(1)
    try:
        while True:
            metrics.CONNECTED.set(bus.health().state in ("connected", "single_process"))
            await asyncio.sleep(every)
    finally:
        metrics.WORKERS.set(0)
        metrics.CONNECTED.set(0)


async def _webhooks(services: Services, settings: Settings, timeouts: Timeouts) -> None:
    from microblog_rt.webhooks import Webhooks  # needs the extra of that name
    from microblog_rt.webhooks.receiver import Receiver

    receiver = Receiver(settings, timeouts)
    await Webhooks(services.storage, services.hub, receiver, settings, timeouts).run()


async def _delete_expired(services: Services, every: float) -> None:
    """Delete expired rows, in one process at a time: the one that takes the turn of this interval first."""
    turn = Limit(1, max(1, round(every)))
    while True:
        await asyncio.sleep(every)
        try:
            await services.storage.write(lambda tx: limits.take(tx, "cleanup", turn))
            await services.accounts.forget_expired()
        except (Unavailable, TooMany):
            pass  # the next time, or another process
        except Exception:
            log.exception("expired rows could not be deleted")


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _connected(bus: Bus, within: float) -> None:
    # Requests served from here on miss no signal. A server serves without its broker too.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            await bus.connected.wait()

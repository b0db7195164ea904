"""``microblog_rt.asgi:app`` for any ASGI server, with settings from the environment.

``microblog-rt serve`` is better: it negotiates no WebSocket compression and drains before it stops.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from microblog_rt.app import create_app
from microblog_rt.errors import Misconfigured
from microblog_rt.settings import Settings, unknown, warnings
from microblog_rt.storage import migrations

log = logging.getLogger(__name__)


class LazyApp:
    """An ASGI application that reads its settings and checks its database when the server starts it (lifespan)."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            try:
                self._app = await _create()
            except Misconfigured as error:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
        if self._app is None:
            # Without its background tasks it would serve, and find no lost signal.
            raise Misconfigured("the ASGI server must start the application with its lifespan protocol")
        await self._app(scope, receive, send)


async def _create() -> Any:
    for name in unknown(os.environ):
        log.warning("%s is not a setting of microblog-rt; ignored", name)
    settings = Settings.from_environ(os.environ)
    for line in warnings(settings):
        log.warning(line)
    await asyncio.to_thread(migrations.check, settings.database_url)  # which runs a loop of its own
    return create_app(settings)


app = LazyApp()

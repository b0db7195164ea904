"""``microblog_rt.asgi:app`` for any ASGI server, with settings from the environment.

``microblog-rt serve`` is better: it negotiates no WebSocket compression and drains before it stops.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from microblog_rt.app import create_app
from microblog_rt.settings import Settings
from microblog_rt.storage import migrations


class LazyApp:
    """An ASGI application that reads its settings and checks its database when the server starts it."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if self._app is None:
            settings = Settings.from_environ(os.environ)
            await asyncio.to_thread(migrations.check, settings.database_url)  # which runs a loop of its own
            self._app = create_app(settings)
        await self._app(scope, receive, send)


app = LazyApp()

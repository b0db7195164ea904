"""The application behind the push edge and Hypercorn, as ``microblog-rt serve`` serves it, in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from quart import Quart

from microblog_rt import server
from microblog_rt.app import create_app
from microblog_rt.models import User
from microblog_rt.push import Edge
from microblog_rt.server.listening import listen
from microblog_rt.server.pages import Pages
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.storage import accounts as rows
from tests.conftest import PATIENT
from tests.server_process import DEADLINE


class Site:
    """A served application; ``passed_on`` are the paths of the requests that Hypercorn has served."""

    def __init__(self, app: Quart, name: Any) -> None:
        self.app = app
        self.name = name  # of the listening socket
        self.services: Services = app.extensions["services"]
        self.passed_on: list[str] = []
        self.users = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            self.passed_on.append(scope["path"])
        await self.app(scope, receive, send)

    @property
    def port(self) -> int:
        return int(self.name[1])

    async def user(self) -> User:
        self.users += 1
        name = f"user{self.users}"
        user = User(username=name, username_key=name, password_hash="")
        await self.services.storage.write(lambda tx: rows.add(tx, user))
        return user

    async def cookie(self, user: User) -> str:
        """The Cookie header of a new session."""
        token = await self.services.sessions.start_session(user, remembered=True)
        authentication = self.app.extensions["authentication"]
        return f"{authentication.cookie_name}={authentication.dump_token(f'{user.id}.{token}', self.app)}"

    async def end_sessions(self, user: User) -> None:
        await self.services.sessions.end_sessions(user.id)


@asynccontextmanager
async def served(settings: Settings, bind: str = "127.0.0.1:0") -> AsyncIterator[Site]:
    """Serve the application as ``microblog-rt serve`` does."""
    config = server.configuration()
    config.root_path = settings.path_prefix
    listening = listen(bind)
    site = Site(create_app(settings, PATIENT), listening.getsockname())
    pages = Pages(site, config, PATIENT)
    admission, direct = (site.app.extensions[name] for name in ("admission", "direct"))
    edge = Edge(site.services.feed, site.services.hub, admission, settings, pages.serve, PATIENT, direct)
    await pages.start()
    accepting = server._acceptor(edge, listening, config, PATIENT)
    accepting.start()
    try:
        yield site
    finally:
        site.services.hub.stop_accepting(float)
        for each in site.services.hub.subscribers():
            each.close(0)
        accepting.close()
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(pages.finish(), edge.close())
            await pages.stop()

"""A Python prompt over one database, where ``await`` works. Not here: the services it hands out (``app.py``)."""

import ast
import asyncio
import code
import inspect
from types import CodeType, FunctionType
from typing import Any

from microblog_rt import models
from microblog_rt.services import Services

BANNER = """microblog-rt: {names}
`session` reads (await session.execute(select(User))); services: storage, accounts, messages, notifications."""


def interact(services: Services) -> None:
    """Talk until the end of input."""
    import sqlalchemy

    nouns = {each.__name__: each for each in _nouns()}
    with asyncio.Runner() as runner:
        opened = services.storage.reading()
        session = runner.run(opened.__aenter__())
        at_hand = {**services._asdict(), **nouns, "session": session, "select": sqlalchemy.select}
        try:
            Console(runner, at_hand).interact(BANNER.format(names=", ".join(nouns)), exitmsg="")
        finally:
            runner.run(opened.__aexit__(None, None, None))
            runner.run(services.close())


def _nouns() -> list[type]:
    return [mapper.class_ for mapper in models.Base.registry.mappers]


class Console(code.InteractiveConsole):
    """A console that runs what awaits on a loop of its own."""

    def __init__(self, runner: asyncio.Runner, names: dict[str, Any]) -> None:
        super().__init__(names)
        self._runner = runner
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    def runcode(self, compiled: CodeType) -> None:
        try:
            result = FunctionType(compiled, self.locals)()
            if inspect.iscoroutine(result):
                self._runner.run(result)
        except SystemExit:
            raise
        except BaseException:
            self.showtraceback()

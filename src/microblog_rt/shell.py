"""A Python prompt over one database, in which ``await`` works."""

import ast
import asyncio
import code
import inspect
from types import CodeType, FunctionType
from typing import Any

from microblog_rt import models
from microblog_rt.services import Services

BANNER = """microblog-rt: {names}
`session` reads (await session.execute(select(User))); services: {services}."""


def interact(services: Services) -> None:
    """Run the prompt until the end of input."""
    import sqlalchemy

    models_by_name = {each.__name__: each for each in _model_classes()}
    with asyncio.Runner() as runner:
        opened = services.storage.reading()
        session = runner.run(opened.__aenter__())
        names = {**services._asdict(), **models_by_name, "session": session, "select": sqlalchemy.select}
        banner = BANNER.format(names=", ".join(sorted(models_by_name)), services=", ".join(services._fields))
        try:
            Console(runner, names).interact(banner, exitmsg="")
        finally:
            runner.run(opened.__aexit__(None, None, None))
            runner.run(services.close())


def _model_classes() -> list[type]:
    return [mapper.class_ for mapper in models.Base.registry.mappers]


class Console(code.InteractiveConsole):
    """A console that runs coroutines on its own event loop."""

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

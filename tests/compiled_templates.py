"""Jinja templates that are compiled once for all applications of the tests, in a process and those forked from it."""

import io

from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from quart import Quart


class CompiledTemplates(BytecodeCache):
    """Compiled templates in memory."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._code:
            bucket.load_bytecode(io.BytesIO(self._code[bucket.key]))

    def dump_bytecode(self, bucket: Bucket) -> None:
        code = io.BytesIO()
        bucket.write_bytecode(code)
        self._code[bucket.key] = code.getvalue()


Quart.jinja_options = {"bytecode_cache": CompiledTemplates()}


def compile_all(app: Quart) -> None:
    """Compile every template of ``app``, as every later application of this process would."""
    for name in app.jinja_env.list_templates():
        app.jinja_env.get_template(name)

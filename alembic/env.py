"""Alembic's entry: the connection is made, locked and committed by ``microblog_rt.storage.migrations``."""

from typing import Any, Literal

from alembic import context
from sqlalchemy.types import TypeDecorator

from microblog_rt.models import Base


def as_stored(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """A migration speaks of what the database stores, and so outlives our own types."""
    return f"sa.{item.impl!r}" if kind == "type" and isinstance(item, TypeDecorator) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    render_item=as_stored,
    compare_type=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()

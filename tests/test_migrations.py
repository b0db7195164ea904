"""Migrations on both databases: upgrade, downgrade, two at once, and an unreachable database."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, make_url

from microblog_rt.errors import Misconfigured
from microblog_rt.models import Base
from microblog_rt.storage import migrations
from tests.conftest import POSTGRESQL, SQLITE
from tests.server_process import COMMAND, DEADLINE
from tests.services import PostgreSQL


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == SQLITE:
        return f"sqlite+aiosqlite:///{tmp_path}/test.db"
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    return postgresql.database()


def tables(connection: Connection) -> list[str]:
    return inspect(connection).get_table_names()


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


def test_newest_revision_equals_the_models(empty: str) -> None:
    migrations.upgrade(empty)
    assert migrations._opened(empty, differences) == []


def test_constraints_have_the_names_of_the_models(empty: str) -> None:
    def check(connection: Connection) -> None:
        look = inspect(connection)
        for table in Base.metadata.tables.values():
            named = {each["name"] for each in look.get_foreign_keys(table.name)}
            named |= {each["name"] for each in look.get_unique_constraints(table.name)}
            expected = {each.name for each in table.constraints}
            if connection.dialect.name == "sqlite" and table.dialect_options["sqlite"]["autoincrement"]:
                expected.remove(table.primary_key.name)  # SQLite has no name for such a key
            else:
                named.add(look.get_pk_constraint(table.name)["name"])
            assert named == expected
            assert None not in named

    migrations.upgrade(empty)
    migrations._opened(empty, check)


def test_every_revision_can_be_downgraded_and_upgraded_again(empty: str) -> None:
    def undo(connection: Connection) -> list[str]:
        config = migrations._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
        return tables(connection)

    migrations.upgrade(empty)
    assert migrations._opened(empty, undo) == ["alembic_version"]
    migrations.upgrade(empty)
    assert migrations.current(empty) == migrations.head()


def test_failed_migration_changes_nothing(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = op.create_table

    def breaks(name: str, *columns: object, **more: object) -> object:
        if name == "notification":
            raise RuntimeError("half way")
        return real(name, *columns, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(op, "create_table", breaks)
    with pytest.raises(RuntimeError, match="half way"):
        migrations.upgrade(empty)
    assert migrations.current(empty) is None
    assert migrations._opened(empty, tables) == []


def test_concurrent_upgrades_run_one_after_the_other(empty: str) -> None:
    environ = {**os.environ, "MICROBLOG_DATABASE_URL": empty}
    all_at_once = [
        subprocess.Popen([*COMMAND, "db", "upgrade"], env=environ, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for each in all_at_once:
        _, output = each.communicate(timeout=DEADLINE)
        (line,) = output.splitlines()
        assert each.returncode == 0
        assert "microblog_rt.security: command" in line
    assert migrations._opened(empty, differences) == []


def test_empty_database_is_refused_with_the_command_to_run(empty: str) -> None:
    with pytest.raises(Misconfigured, match="empty; run: microblog-rt db upgrade"):
        migrations.check(empty)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"host": "127.0.0.2", "password": "a secret"}, "cannot be used: .*127.0.0.2"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"username": "nobody"}, 'role "nobody" does not exist'),
        ({"query": {"nonsense": "1"}}, "nonsense"),
    ],
)
def test_connection_error_does_not_show_the_password(
    postgresql: PostgreSQL, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(Misconfigured, match=complaint) as refused:
        migrations.check(_changed(postgresql.url, **change))
    assert "a secret" not in str(refused.value)


def _changed(url: str, **change: Any) -> str:
    return make_url(url).set(**change).render_as_string(hide_password=False)


def test_unresponsive_server_times_out(postgresql: PostgreSQL) -> None:
    postgresql.pause()
    try:
        with pytest.raises(Misconfigured, match="no answer"):
            migrations.check(postgresql.url)
    finally:
        postgresql.resume()

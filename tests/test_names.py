"""Names: which are accepted, which are the same account, which look alike; on both databases."""

import asyncio

import pytest
from alembic import command
from sqlalchemy import Connection, text, update

from microblog_rt import names
from microblog_rt.errors import Invalid
from microblog_rt.models import User
from microblog_rt.services import Services
from microblog_rt.storage import migrations
from tests.conftest import PASSWORD

VALID = [
    "ab",
    "a.b",
    "A-_9",
    "x" * 64,
    "a_",
    "ñandú",
    "Владимир",
    "山田太郎",
    "محمد",
    "नमस्ते",
    "สมชาย",
    "김철수",
    "Ωμέγα",
]
FORMAT = [
    "",
    "a",
    "x" * 65,
    "a b",
    "a/b",
    "a\n",
    "..",
    ".a",
    "-a",
    "_a",
    "1a",
    "a.",
    "a-",
    "a@b",
    "a\0",
    "\u3164\u3164",
]
FORMAT += ["a\u200db", "a\u00adb", "a\ufe0fb", "a" + "\u0315" * 5 + "b", "\N{GRINNING FACE}a", "\ufdfa", "ß" * 33]


@pytest.mark.parametrize("name", VALID)
async def test_letters_of_any_script_are_accepted(services: Services, name: str) -> None:
    user = await services.accounts.register(name, PASSWORD)
    assert user.username == name
    assert (await services.accounts.check_password(name.upper(), PASSWORD)).id == user.id


@pytest.mark.parametrize("name", FORMAT)
async def test_invalid_name_is_refused(services: Services, name: str) -> None:
    with pytest.raises(Invalid, match="username_format") as refused:
        await services.accounts.register(name, PASSWORD)
    assert refused.value.field == "username"


RESERVED = [
    "admin",
    "ADMIN",
    "Admin",
    "аdmin",
    "adm1n",
    "ɑdmin",
    "adrnin",
    "R00t",
    "support",
    "send_message",
    "microblog",
]


@pytest.mark.parametrize("name", RESERVED)
async def test_reserved_name_is_refused(services: Services, name: str) -> None:
    with pytest.raises(Invalid, match="username_reserved"):
        await services.accounts.register(name, PASSWORD)


@pytest.mark.parametrize("name", ["SUSANNE", "ｓｕｓａｎｎｅ", "𝐬𝐮𝐬𝐚𝐧𝐧𝐞"])
async def test_variants_of_a_name_are_the_same_account(services: Services, name: str) -> None:
    user = await services.accounts.register("Susanne", PASSWORD)
    with pytest.raises(Invalid, match="username_taken"):
        await services.accounts.register(name, PASSWORD)
    found = await services.accounts.find(name)
    assert found is not None
    assert found.id == user.id
    assert (await services.accounts.check_password(name, PASSWORD)).id == user.id


async def test_name_is_stored_normalized(services: Services) -> None:
    user = await services.accounts.register("ﬁn\N{COMBINING DIAERESIS}a", PASSWORD)
    assert user.username == "fin\N{COMBINING DIAERESIS}a"
    composed = await services.accounts.register("Zoe\N{COMBINING DIAERESIS}", PASSWORD)
    assert composed.username == "Zoë"
    assert await services.accounts.find("ZOE\N{COMBINING DIAERESIS}") is not None


ALIKE = [
    ("susan", "ѕuѕаn"),
    ("paypal", "paypaI"),
    ("paypal", "Раураl"),
    ("Irene", "lrene"),
    ("Irene", "іrеne"),
    ("mona", "Моna"),
    ("morning", "mornıng"),
    ("modern", "rnodern"),
    ("go0gle", "google"),
    ("nina", "ΝΙΝΑ"),
]


@pytest.mark.parametrize(("name", "similar"), [*ALIKE, *(pair[::-1] for pair in ALIKE)])
async def test_name_that_looks_like_another_is_refused(services: Services, name: str, similar: str) -> None:
    await services.accounts.register(name, PASSWORD)
    with pytest.raises(Invalid, match="username_similar") as refused:
        await services.accounts.register(similar, PASSWORD)
    assert refused.value.field == "username"
    assert await services.accounts.find(similar) is None


@pytest.mark.parametrize("name", ["susana", "sus.an", "sus-an", "súsan", "sysan"])
async def test_name_that_looks_different_is_accepted(services: Services, susan: User, name: str) -> None:
    await services.accounts.register(name, PASSWORD)


async def test_dot_of_the_i_makes_a_difference(services: Services) -> None:
    for name in ("Neil", "Nell", "Ella", "Elia"):
        await services.accounts.register(name, PASSWORD)


async def test_concurrent_registrations_of_similar_names_accept_one(services: Services) -> None:
    registered = await asyncio.gather(
        *(services.accounts.register(name, PASSWORD) for name in ("susan", "ѕusan", "suѕan", "susаn")),
        return_exceptions=True,
    )
    refused = [each for each in registered if isinstance(each, Invalid)]
    assert [each.reason for each in refused] == ["username_similar"] * 3


@pytest.mark.parametrize("name", ["1st", ".hidden", "-x-", "admin", "trailing."])
async def test_account_with_an_old_name_can_still_sign_in(services: Services, susan: User, name: str) -> None:
    """The name was registered before today's rules."""
    old = update(User).values(username=name, username_key=name, username_skeleton=None)
    await services.storage.write(lambda tx: tx.execute(old))
    user = await services.accounts.check_password(name.upper(), PASSWORD)
    assert (user.id, user.username) == (susan.id, name)
    await services.accounts.set_password(name, "another password")
    assert (await services.accounts.check_password(name, "another password")).id == susan.id


ASCII = ["susan", "Mimi", "I1l0O", "rn-m_M.9", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "m" * 64]


def test_migration_fills_in_the_skeletons(database: str) -> None:
    """The SQL of the migration against the function, for names of the earlier rules."""

    def downgrade_insert_upgrade(connection: Connection) -> dict[str, str]:
        config = migrations._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
        insert = text(
            "INSERT INTO \"user\" (username, username_key, password_hash, member_since) VALUES (:name, :key, '', 1)"
        )
        connection.execute(insert, [{"name": name, "key": name.lower()} for name in ASCII])
        command.upgrade(config, "head")
        skeletons = connection.execute(text('SELECT username, username_skeleton FROM "user"')).all()
        connection.commit()
        return {each.username: each.username_skeleton for each in skeletons}

    assert migrations._opened(database, downgrade_insert_upgrade) == {name: names.skeleton(name) for name in ASCII}

"""``microblog-rt import flask-microblog``: the data of the Flask tutorial's application, on both databases."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from werkzeug.security import generate_password_hash

from microblog_rt.accounts import werkzeug_hashes
from microblog_rt.errors import Invalid
from microblog_rt.imports import carry_out, flask_microblog
from microblog_rt.imports.tutorial_file import opened
from microblog_rt.mailboxes import Change
from microblog_rt.models import Mailbox, Message, User
from microblog_rt.models import Notification as Row
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.services import Services
from microblog_rt.storage.counters import UNREAD_MESSAGES
from tests.command_line import Folder
from tests.conftest import KEY, PASSWORD
from tests.server_process import Server
from tests.tutorial_database import EARLY, PASSWORDS, TutorialDatabase, filled

IMPORT = ("import", "flask-microblog")
NOT_IMPORTED = "2 posts, 3 follows, 1 profile text, 1 task: not imported\n"
NOON = "2024-05-01 12:00:00.000000"


@pytest.fixture
def old(tmp_path: Path) -> Iterator[TutorialDatabase]:
    """A filled database of the tutorial's last chapter."""
    database = filled(tmp_path / "app.db")
    yield database
    database.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[TutorialDatabase]:
    """An empty one."""
    database = TutorialDatabase(tmp_path / "app.db")
    yield database
    database.close()


class Importer(Folder):
    """The folder of ``app.db``, with the settings of a database to import to."""

    def __init__(self, path: Path, database: str) -> None:
        super().__init__(path)
        self.environ = {"MICROBLOG_DATABASE_URL": database, "MICROBLOG_SECRET_KEY": KEY}

    def imported(self, *options: str) -> tuple[str, str]:
        """The output of a successful import, and its notes."""
        result = self.run(*IMPORT, "app.db", *options, **self.environ)
        assert result.returncode == 0, result
        return result.stdout, result.stderr

    def fails(self, *options: str) -> str:
        """The output of an import that imports nothing."""
        result = self.run(*IMPORT, "app.db", *options, **self.environ)
        assert (result.returncode, result.stdout) == (1, ""), result
        assert "Traceback" not in result.stderr
        return result.stderr


@pytest.fixture
def importer(tmp_path: Path, database: str) -> Importer:
    return Importer(tmp_path, database)


async def users(services: Services) -> dict[str, User]:
    async with services.storage.reading() as reading:
        return {each.username: each for each in await reading.scalars(select(User).order_by(User.id))}


async def messages(services: Services) -> list[Message]:
    async with services.storage.reading() as reading:
        return list(await reading.scalars(select(Message).order_by(Message.id)))


async def counts(services: Services) -> dict[str, int]:
    """Every user's counter, which equals the count, and is behind the mailbox clock with everything else."""
    async with services.storage.reading() as reading:
        rows = await reading.execute(select(User.username, Mailbox, UNREAD_MESSAGES.unread()).join(Mailbox))
        found = {name: (mailbox, unread) for name, mailbox, unread in rows}
        stamps = [*(await reading.execute(select(Message.recipient_id, Message.timestamp)))]
        stamps += await reading.execute(select(Row.user_id, Row.timestamp))
    clocks = {mailbox.user_id: mailbox.clock for mailbox, _ in found.values()}
    assert all(stamp <= clocks[user_id] for user_id, stamp in stamps)
    assert all(mailbox.unread_message_count == unread for mailbox, unread in found.values())
    return {name: unread for name, (_, unread) in found.items()}


async def test_users_messages_and_notifications_are_imported(
    old: TutorialDatabase, importer: Importer, services: Services
) -> None:
    assert importer.imported() == ("Imported 3 users, 8 messages and 1 notification.\n", NOT_IMPORTED)
    found = await users(services)
    assert [(each.username, each.email) for each in found.values()] == [
        (name, f"{name}@example.org") for name in PASSWORDS
    ]
    first_post = 1703440800 * MICROSECONDS  # 24 December 2023, earlier than anything else that susan did
    assert found["susan"].member_since == first_post
    sent = await messages(services)
    names = {each.id: name for name, each in found.items()}
    assert [(names[each.sender_id], names[each.recipient_id], each.body) for each in sent][4:6] == [
        ("maria", "susan", "an older one with a higher id"),
        ("susan", "john", "hello\njohn"),
    ]
    assert sent[0].created == 1709283600 * MICROSECONDS + 1
    inbox = await services.messages.inbox(found["susan"].id, 10)
    assert [(each.body, each.unread) for each in inbox.rows] == [
        ("at the same time as the one before", True),
        ("unread", True),
        ("read at this very time", False),
        ("first", False),
        ("an older one with a higher id", False),
    ]
    async with services.storage.reading() as reading:
        susans = await reading.scalars(select(Row).where(Row.user_id == found["susan"].id).order_by(Row.timestamp))
        assert [(each.name, each.get_data()) for each in susans] == [
            ("unread_message_count", 2),
            ("task_progress", {"task_id": "0a1b", "progress": 100}),
        ]


async def test_each_unread_count_equals_the_tutorials(
    old: TutorialDatabase, importer: Importer, services: Services
) -> None:
    """With many messages at equal times, and read marks at and between them."""
    rng = random.Random(20)
    times = [f"2024-06-01 10:00:{second:02}.{micro:06}" for second in range(5) for micro in (0, 1, 999_999)]
    for user_id in range(4, 14):
        mark = rng.choice([*times, None, "2024-06-01 10:00:02.500000"])
        old.add_user(user_id, f"reader{user_id}", last_message_read_time=mark)
    for number in range(400):
        old.add_message(rng.randint(1, 13), rng.randint(1, 13), f"message {number}", rng.choice(times))
    importer.imported()
    found = await counts(services)
    assert found == {name: old.new_messages(name) for name in found}
    assert len(found) == 13
    assert len(set(found.values())) > 4
    reader = await services.accounts.known("reader4")
    await services.messages.send_message(reader.id, (await services.accounts.known("susan")).id, "a new one")
    assert await counts(services) == found | {"susan": found["susan"] + 1}


def test_sign_in_with_an_old_password_and_badge_over_the_web(
    old: TutorialDatabase, tmp_path: Path, database_environ: dict[str, str]
) -> None:
    folder = Folder(tmp_path)
    assert folder.run(*IMPORT, "app.db", **database_environ).returncode == 0
    with Server(tmp_path, environ=database_environ) as server:
        for name, password in PASSWORDS.items():
            server.password = password
            for _ in range(2):  # with the hash of the tutorial's application, then with ours
                person, unread = server.person(name), old.new_messages(name)
                assert (
                    f'id="message_count" class="badge rounded-pill" data-count="{unread}"'
                    in person.client.get("/").text
                )
                notifications = {each["name"]: each["data"] for each in person.client.get("/notifications").json()}
                assert notifications["unread_message_count"] == unread
                wrong = person.post("/auth/login", username=name, password=f"{password}x")
                assert "Wrong username or password." in wrong.text
                person.close()
    assert server.warnings_logged() == []


async def test_first_sign_in_replaces_the_hash(old: TutorialDatabase, importer: Importer, services: Services) -> None:
    importer.imported()
    with pytest.raises(Invalid, match="wrong_password"):
        await services.accounts.check_password("susan", "cat in a bag")
    await services.accounts.check_password("susan", PASSWORDS["susan"])
    hashes = {name: user.password_hash.partition("$")[0] for name, user in (await users(services)).items()}
    assert hashes == {"susan": "", "john": "pbkdf2:sha256:50000", "maria": "pbkdf2:sha256:260000"}
    assert (await users(services))["susan"].password_hash.startswith("$argon2id$")
    await services.accounts.check_password("Susan", PASSWORDS["susan"])


@pytest.mark.parametrize("method", ["scrypt", "scrypt:16384:8:2", "pbkdf2", "pbkdf2:sha512:1000", "pbkdf2:sha1:1000"])
def test_hashes_of_werkzeug_match_their_password(method: str) -> None:
    hashed = generate_password_hash("contraseña", method)
    assert werkzeug_hashes.is_usable(hashed)
    assert werkzeug_hashes.matches(hashed, "contraseña")
    assert not werkzeug_hashes.matches(hashed, "contrasena")


@pytest.mark.parametrize(
    "hashed",
    [
        "scrypt:16777216:8:1$salt$" + "0" * 128,  # 16 GiB
        "scrypt:65536:8:2$salt$" + "0" * 128,
        "scrypt:32767:8:1$salt$" + "0" * 128,  # not a power of two
        "scrypt:0:8:1$salt$" + "0" * 128,
        "pbkdf2:sha256:999999999$salt$" + "0" * 64,
        "pbkdf2:sha256:0$salt$" + "0" * 64,
        "pbkdf2:md4:1000$salt$" + "0" * 64,
        "$argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA",  # 4 GiB
        "plain",
        "",
    ],
)
async def test_costly_or_unknown_hash_is_not_computed(hashed: str, empty: TutorialDatabase) -> None:
    assert not werkzeug_hashes.is_usable(hashed)
    assert not werkzeug_hashes.matches(hashed, "password")
    empty.add_user(1, "susan", password_hash=hashed)
    with opened(empty.path) as file:
        found = await flask_microblog.read(file)
    assert found.users[1].password_hash == ""
    assert found.notes == ["user susan: no usable password; set one: microblog-rt user password susan"]


def test_right_password_of_a_costly_hash_does_not_match(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = generate_password_hash("password", "pbkdf2:sha256:1000")
    assert werkzeug_hashes.matches(hashed, "password")
    monkeypatch.setattr(werkzeug_hashes, "ITERATIONS", 999)
    assert not werkzeug_hashes.matches(hashed, "password")


async def test_what_is_not_allowed_here_is_changed_and_listed(
    empty: TutorialDatabase, importer: Importer, services: Services
) -> None:
    hashed = generate_password_hash(PASSWORD)
    wanted = ["Susan", "susan", "admin", "John Doe", "x", "a1ice", "alice", "\x00", "user_5", "ｍａｒｉａ"]
    for user_id, name in enumerate(wanted, 1):
        empty.add_user(user_id, name, password_hash=hashed, email="nowhere" if name == "Susan" else f"{user_id}@a.org")
    long, empty_one = "é" * 200, " "
    for body in (long, empty_one, "a\0b", b"caf\xe9"):
        empty.add_message(1, 2, body, NOON)
    empty.add_message(1, 2, "undated", "yesterday")
    for row in ((1, "x" * 129, 1, 1.0, "1"), (2, "unread_mentions", 1, 1.0, "1"), (3, "good", 9, 1.0, "{}")):
        empty.add("notification", row)
    empty.add("notification", (4, "bad", 1, 1.0, "{"), (5, "nan", 1, 1.0, "NaN"), (6, "orphan", 99, 1.0, "1"))
    output, notes = importer.imported()
    assert output == "Imported 10 users, 5 messages and 1 notification.\n"
    found = await users(services)
    assert list(found) == [
        "Susan", "susan_2", "admin_3", "John_Doe_4", "x_5", "a1ice", "alice", "user_8", "user_5", "maria",
    ]  # fmt: skip
    assert notes.splitlines() == [
        "user 'susan' becomes susan_2: the name is the name of another user in other letters",
        "user 'admin' becomes admin_3: the name is a reserved name",
        "user 'John Doe' becomes John_Doe_4: the name is not a valid name",
        "user 'x' becomes x_5: the name is not a valid name",
        r"user '\x00' becomes user_8: the name is not a valid name",
        "user alice looks like a1ice; both keep their names",
        "user Susan: the e-mail address 'nowhere' is not valid, and is left out",
        "message 3: characters that cannot be stored become \N{REPLACEMENT CHARACTER}",
        "message 4: characters that cannot be stored become \N{REPLACEMENT CHARACTER}",
        "message 5: without a valid time; it becomes the oldest",
        *(
            f"notification {number}, {name!r}: not valid here, and is left out"
            for number, name in [(1, "x" * 64), (2, "unread_mentions"), (4, "bad"), (5, "nan"), (6, "orphan")]
        ),
    ]
    bodies = [each.body for each in await messages(services)]
    assert bodies == [long, empty_one, "a\N{REPLACEMENT CHARACTER}b", "caf\N{REPLACEMENT CHARACTER}", "undated"]
    await services.accounts.check_password("susan_2", PASSWORD)


async def test_losses_refuse_the_import_unless_skipped(
    empty: TutorialDatabase, importer: Importer, services: Services
) -> None:
    empty.add_user(1, "susan", password_hash=generate_password_hash(PASSWORD))
    for recipient, body in ((1, "x" * 1401), (2, "to a deleted user"), (1, "kept")):
        empty.add_message(1, recipient, body, NOON)
    losses = [
        "Cannot be imported: message 1: 1401 characters, more than 1400",
        "Cannot be imported: message 2: its sender or its recipient does not exist",
    ]
    refused = importer.fails().splitlines()
    assert refused[:2] == losses
    assert refused[2].startswith("Error: 2 rows cannot be imported; nothing was imported.")
    assert await users(services) == {}
    output, notes = importer.imported("--skip")
    assert (output, notes.splitlines()) == ("Imported 1 user, 1 message and 0 notifications.\n", losses)
    assert [each.body for each in await messages(services)] == ["kept"]


async def test_dry_run_writes_nothing(old: TutorialDatabase, importer: Importer, services: Services) -> None:
    expected = ("Would import 3 users, 8 messages and 1 notification; nothing was written.\n", NOT_IMPORTED)
    assert importer.imported("--dry-run") == expected
    assert await users(services) == {}


async def test_second_import_is_refused_and_changes_nothing(
    old: TutorialDatabase, importer: Importer, services: Services
) -> None:
    importer.imported()
    old.add_user(4, "newcomer")
    for options in ([], ["--dry-run"]):
        assert "Error: 3 accounts have names of the import" in importer.fails(*options)
    assert list(await users(services)) == list(PASSWORDS)
    assert len(await messages(services)) == 8


@pytest.mark.parametrize("name", ["MARIA", "ѕusan"])
async def test_account_of_the_same_or_a_similar_name_refuses_the_import(
    old: TutorialDatabase, importer: Importer, services: Services, name: str
) -> None:
    await services.accounts.register(name, PASSWORD)
    assert f"names that look like them: {name}. Nothing was imported" in importer.fails()
    assert list(await users(services)) == [name]


async def test_failure_in_the_middle_leaves_nothing(
    old: TutorialDatabase, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(old.path) as file:
        found = await flask_microblog.read(file)
    monkeypatch.setattr(Change, "set", lambda *_: 1 / 0)  # the last step
    with pytest.raises(ZeroDivisionError):
        await carry_out(found, services.storage)
    assert await users(services) == {}
    assert await messages(services) == []


@pytest.mark.sqlite
async def test_running_application_is_read_and_its_file_unchanged(
    old: TutorialDatabase, importer: Importer, services: Services
) -> None:
    """In WAL mode, with one transaction in the WAL only, and one that is not committed."""
    old.connection.execute("PRAGMA journal_mode=WAL")
    old.add_user(4, "in_the_wal")
    old.connection.execute("INSERT INTO user (id, username, email) VALUES (5, 'uncommitted', '')")
    before = old.path.read_bytes()
    importer.imported()
    assert old.path.read_bytes() == before
    assert list(await users(services)) == [*PASSWORDS, "in_the_wal"]
    old.connection.rollback()


@pytest.mark.sqlite
async def test_import_leaves_no_files_beside_a_copy(old: TutorialDatabase, importer: Importer) -> None:
    old.connection.execute("PRAGMA journal_mode=WAL")
    old.close()
    importer.imported()
    assert [each.name for each in importer.path.glob("app.db*")] == ["app.db"]


@pytest.mark.sqlite
async def test_messages_in_the_future_do_not_set_the_clock(
    empty: TutorialDatabase, importer: Importer, services: Services
) -> None:
    empty.add_user(1, "susan")
    for body in ("one", "two"):
        empty.add_message(1, 1, body, "9999-12-31 23:59:59.999999")
    importer.imported()
    assert await counts(services) == {"susan": 2}
    one, two = await messages(services)
    assert one.timestamp < two.timestamp < 2 * one.timestamp
    assert two.timestamp < 10_000_000_000 * MICROSECONDS < (two.created or 0)


async def test_databases_of_earlier_chapters_are_imported(
    tmp_path: Path, importer: Importer, services: Services
) -> None:
    database = TutorialDatabase(tmp_path / "app.db", EARLY)
    database.add_user(1, "susan", password_hash=generate_password_hash(PASSWORD, "pbkdf2:sha256:50000"))
    database.add("post", [1, "my first post", NOON, 1])
    database.close()
    assert importer.imported() == (
        "Imported 1 user, 0 messages and 0 notifications.\n",
        "1 post: not imported\n",
    )
    await services.accounts.check_password("susan", PASSWORD)
    assert await counts(services) == {"susan": 0}


OTHER_TABLES = "CREATE TABLE user (id INTEGER PRIMARY KEY, username TEXT, password TEXT)"
OTHER_MESSAGES = EARLY + "CREATE TABLE message (id INTEGER PRIMARY KEY, text TEXT)"


def test_file_that_is_not_the_tutorials_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "text").write_text("a shopping list\n" * 100)
    for name, tables in (("empty", ""), ("other", OTHER_TABLES), ("messages", OTHER_MESSAGES)):
        connection = sqlite3.connect(tmp_path / name)
        connection.executescript(tables)
        connection.close()
    assert folder.run("db", "upgrade").returncode == 0
    for name, error in {
        "missing": "missing cannot be read: No such file or directory",
        ".": ". cannot be read: Is a directory",
        "text": "text cannot be read: file is not a database",
        "empty": "its table user is missing, or has no email, id, password_hash, username",
        "other": "its table user is missing, or has no email, password_hash",
        "messages": "its table message is missing, or has no body, recipient_id, sender_id, timestamp",
        "microblog.db": "it is a database of microblog-rt",
    }.items():
        assert error in folder.refused(*IMPORT, name)
    assert not (tmp_path / "missing").exists()

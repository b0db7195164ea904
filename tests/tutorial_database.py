"""A database of the Flask tutorial's application, in the tables of its last chapter or of an earlier one."""

import sqlite3
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from werkzeug.security import generate_password_hash

LAST = """
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
CREATE TABLE user (
    id INTEGER NOT NULL PRIMARY KEY, username VARCHAR(64) NOT NULL, email VARCHAR(120) NOT NULL,
    password_hash VARCHAR(256), about_me VARCHAR(140), last_seen DATETIME, last_message_read_time DATETIME,
    token VARCHAR(32), token_expiration DATETIME
);
CREATE UNIQUE INDEX ix_user_username ON user (username);
CREATE UNIQUE INDEX ix_user_email ON user (email);
CREATE TABLE followers (
    follower_id INTEGER NOT NULL REFERENCES user (id), followed_id INTEGER NOT NULL REFERENCES user (id),
    PRIMARY KEY (follower_id, followed_id)
);
CREATE TABLE post (
    id INTEGER NOT NULL PRIMARY KEY, body VARCHAR(140) NOT NULL, timestamp DATETIME NOT NULL,
    user_id INTEGER NOT NULL REFERENCES user (id), language VARCHAR(5)
);
CREATE TABLE message (
    id INTEGER NOT NULL PRIMARY KEY, sender_id INTEGER NOT NULL REFERENCES user (id),
    recipient_id INTEGER NOT NULL REFERENCES user (id), body VARCHAR(140) NOT NULL, timestamp DATETIME NOT NULL
);
CREATE TABLE notification (
    id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(128) NOT NULL, user_id INTEGER NOT NULL REFERENCES user (id),
    timestamp FLOAT NOT NULL, payload_json TEXT NOT NULL
);
CREATE TABLE task (
    id VARCHAR(36) NOT NULL PRIMARY KEY, name VARCHAR(128) NOT NULL, description VARCHAR(128),
    user_id INTEGER NOT NULL REFERENCES user (id), complete BOOLEAN NOT NULL
);
"""
# Chapters 5 and 6: users and posts, without anything of later chapters.
EARLY = """
CREATE TABLE user (
    id INTEGER NOT NULL PRIMARY KEY, username VARCHAR(64), email VARCHAR(120), password_hash VARCHAR(128)
);
CREATE TABLE post (
    id INTEGER NOT NULL PRIMARY KEY, body VARCHAR(140), timestamp DATETIME, user_id INTEGER REFERENCES user (id)
);
"""

# The number that a page of the tutorial's application shows: User.new_messages() of its last chapters.
NEW_MESSAGES = """
SELECT count(*) FROM message JOIN user ON user.id = message.recipient_id
WHERE user.username = ? AND message.timestamp > coalesce(user.last_message_read_time, '1900-01-01 00:00:00.000000')
"""

PASSWORDS = {"susan": "cat in a hat", "john": "dog on a log", "maria": "frog in a bog"}
METHODS = {"susan": "scrypt", "john": "pbkdf2:sha256:50000", "maria": "pbkdf2:sha256:260000"}


class TutorialDatabase:
    """A file with its tables; empty unless ``users`` are added."""

    def __init__(self, path: Path, tables: str = LAST) -> None:
        self.path = path
        self.connection = sqlite3.connect(path)
        self.connection.executescript(tables)

    def add(self, table: str, *rows: Sequence[Any], columns: str = "") -> None:
        """Insert rows, by default with a value for every column."""
        for row in rows:
            values = ", ".join("?" * len(row))
            self.connection.execute(f"INSERT INTO {table} {columns} VALUES ({values})", row)
        self.connection.commit()

    def add_user(self, user_id: int, username: str, **columns: Any) -> None:
        """Insert a user without a password, unless ``columns`` have one."""
        row = {"id": user_id, "username": username, "email": f"user{user_id}@example.org"} | columns
        self.add("user", list(row.values()), columns=f"({', '.join(row)})")

    def add_message(self, sender_id: int, recipient_id: int, body: Any, timestamp: str | None) -> None:
        self.add(
            "message",
            [sender_id, recipient_id, body, timestamp],
            columns="(sender_id, recipient_id, body, timestamp)",
        )

    def new_messages(self, username: str) -> int:
        """The count that the tutorial's application shows this user."""
        (count,) = self.connection.execute(NEW_MESSAGES, [username]).fetchone()
        return int(count)

    def close(self) -> None:
        self.connection.close()


@cache
def password_hash(username: str) -> str:
    """A hash of the user's password, by one of the methods of Werkzeug's releases."""
    return generate_password_hash(PASSWORDS[username], METHODS[username])


def filled(path: Path) -> TutorialDatabase:
    """A database with three users: read, partly read and unread messages, posts, follows and notifications."""
    database = TutorialDatabase(path)
    read = {"susan": "2024-03-02 10:00:00.000000", "john": None, "maria": "2030-01-01 00:00:00.000000"}
    for user_id, name in enumerate(PASSWORDS, 1):
        database.add_user(
            user_id,
            name,
            email=f"{name}@example.org",
            password_hash=password_hash(name),
            about_me="I like cats" if name == "susan" else None,
            last_seen="2024-03-04 12:00:00.000000",
            last_message_read_time=read[name],
        )
    for sender, recipient, body, time in [
        (2, 1, "first", "2024-03-01 09:00:00.000001"),
        (3, 1, "read at this very time", "2024-03-02 10:00:00.000000"),
        (2, 1, "unread", "2024-03-02 10:00:00.000001"),
        (3, 1, "at the same time as the one before", "2024-03-02 10:00:00.000001"),
        (3, 1, "an older one with a higher id", "2024-02-28 08:00:00.000000"),
        (1, 2, "hello\r\njohn", "2024-03-03 08:00:00.000000"),
        (2, 2, "a note to himself", "2024-03-03 09:00:00.000000"),
        (1, 3, "maria has read everything", "2024-03-03 10:00:00.000000"),
    ]:
        database.add_message(sender, recipient, body, time)
    database.add("post", [1, "my first post", "2023-12-24 18:00:00.000000", 1, "en"])
    database.add("post", [2, "hola", "2024-01-01 00:00:00.000000", 3, "es"])
    database.add("followers", [1, 2], [2, 1], [3, 1])
    database.add("task", ["0a1b", "export_posts", "Exporting posts...", 1, 1])
    database.add(
        "notification",
        [1, "unread_message_count", 1, 1709373600.5, "7"],
        [2, "task_progress", 1, 1709373601.5, '{"task_id": "0a1b", "progress": 50}'],
        [3, "task_progress", 1, 1709373602.5, '{"task_id": "0a1b", "progress": 100}'],
    )
    return database

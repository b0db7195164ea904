"""Everything that is stored about a user, as JSON, without secrets."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from microblog_rt.accounts.sessions import Sessions, session_name
from microblog_rt.accounts.tokens import Tokens
from microblog_rt.models import User
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.storage import Storage, export

AT_ONCE = 500  # rows


class Export:
    """Exports the data of users."""

    def __init__(self, storage: Storage, sessions: Sessions, tokens: Tokens) -> None:
        self._storage = storage
        self._sessions = sessions
        self._tokens = tokens

    async def of(self, user: User) -> AsyncIterator[str]:
        """The parts of one JSON object. Times are in UTC. Raises Unavailable."""
        account = {
            "username": user.username,
            "email": user.email,
            "member_since": _time(user.member_since),
            "display_name": user.display_name,
            "about_me": user.about_me,
        }
        yield '{"account": ' + json.dumps(account, ensure_ascii=False)
        lists = {
            "sessions": self._session_rows(user),
            "access_tokens": self._token_rows(user),
            "notifications": self._notification_rows(user),
            "messages_received": self._message_rows(user, sent=False),
            "messages_sent": self._message_rows(user, sent=True),
            "posts": self._post_rows(user),
            "mentions": self._mention_rows(user),
            "follows": self._follow_rows(user),
        }
        for name, rows in lists.items():
            yield f',\n"{name}": ['
            separator = ""
            async for some in rows:
                for each in some:
                    yield f"{separator}\n{json.dumps(each, ensure_ascii=False)}"
                    separator = ","
            yield "]"
        yield "}\n"

    async def _session_rows(self, user: User) -> AsyncIterator[Iterable[Any]]:
        before = None
        while (page := await self._sessions.all_sessions(user.id, AT_ONCE, before)).rows:
            yield [
                {
                    "session": session_name(each.token_hash),
                    "device": each.device,
                    "created": _time(each.created),
                    "last_used": _time(each.last_used),
                    "expires": _time(each.expires),
                }
                for each in page.rows
            ]
            before = page.rows[-1].created

    async def _token_rows(self, user: User) -> AsyncIterator[Iterable[Any]]:
        yield [
            {
                "id": each.id,
                "name": each.name,
                "scopes": each.scopes.split(),
                "created": _time(each.created),
                "expires": _time(each.expires),
                "last_used": _time(each.last_used),
            }
            for each in await self._tokens.of_user(user.id)
        ]

    async def _notification_rows(self, user: User) -> AsyncIterator[Iterable[Any]]:
        async with self._storage.reading() as reading:
            found = await export.notifications(reading, user.id)
        yield [{"name": each.name, "data": each.get_data(), "time": _time(each.timestamp)} for each in found]

    async def _message_rows(self, user: User, *, sent: bool) -> AsyncIterator[Iterable[Any]]:
        other = "recipient" if sent else "author"
        async for rows in self._parts(partial(export.messages, user_id=user.id, sent=sent)):
            yield [{other: name, "body": body, "time": _time(time)} for _, name, body, time in rows]

    async def _post_rows(self, user: User) -> AsyncIterator[Iterable[Any]]:
        """The number of each post is that of its page."""
        async for rows in self._parts(partial(export.posts, user_id=user.id)):
            yield [
                {"post": post_id, "body": body, "time": _time(time), "reply_to": reply_to}
                for post_id, body, time, reply_to in rows
            ]

    async def _mention_rows(self, user: User) -> AsyncIterator[Iterable[Any]]:
        async for rows in self._parts(partial(export.mentions, user_id=user.id)):
            yield [
                {"author": name, "post": post_id, "body": body, "time": _time(time)}
                for _, name, post_id, body, time in rows
            ]

    async def _follow_rows(self, user: User) -> AsyncIterator[Iterable[Any]]:
        async for rows in self._parts(partial(export.follows, user_id=user.id)):
            yield [{"username": name, "since": _time(time)} for _, name, time in rows]

    async def _parts(self, find: Callable[..., Awaitable[Sequence[Any]]]) -> AsyncIterator[Sequence[Any]]:
        """All rows of ``find``, some at a time; the first column orders them."""
        after = 0
        while True:
            async with self._storage.reading() as reading:
                rows = await find(reading, after=after, size=AT_ONCE)
            if not rows:
                return
            yield rows
            after = rows[-1][0]


def _time(moment: int | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment / MICROSECONDS, UTC).isoformat()

"""Users of another site, which signs their tokens (``jwts.py``). Their first request creates their account.

Such a user has a time ``User.jwts_after``; tokens issued up to then are revoked. A user without it has an account of
this site's own, which no such token may use.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from microblog_rt import names, security_log
from microblog_rt.accounts import rules
from microblog_rt.accounts.sessions import Reader, Sessions
from microblog_rt.accounts.tokens import reader_of
from microblog_rt.errors import Invalid, NotFound, SubjectInvalid, SubjectTaken, SubjectUnknown, TokenEnded
from microblog_rt.jwts import JWT, Claims
from microblog_rt.models import User
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage, Transaction, tokens
from microblog_rt.storage import accounts as stored
from microblog_rt.text import is_storable

REMEMBERED = 50_000


class SiteUsers:
    """Finds the users that tokens name, and creates their accounts."""

    def __init__(self, storage: Storage, sessions: Sessions, settings: Settings) -> None:
        self._storage = storage
        self._sessions = sessions
        self._keys = settings.jwt_key
        self._audience = settings.jwt_audience
        # By subject. The read compares both again: after a backup was restored, an id may be another user's.
        self._ids: dict[str, int] = {}
        self._adding: dict[str, asyncio.Task[int]] = {}

    def reader(self, text: str) -> Reader:
        """The reader that an access token or a signed token names, without I/O.

        Raises TokenEnded, and SubjectUnknown for a user who is unknown to this process; await ``ensure_account`` then.
        """
        if self._keys is None or not JWT.fullmatch(text):
            return reader_of(text)
        claims = self._keys.claims(text, self._audience)
        user_id = self._ids.get(claims.subject)
        if user_id is None:
            raise SubjectUnknown(claims.subject)
        return _reader(user_id, claims)

    def forget(self, reader: Reader) -> None:
        """Look the user of a refused token up again at the next request: after a restore, the id may be another's."""
        if reader.jwt is not None:
            self._ids.pop(reader.jwt.subject, None)

    def renewed(self, reader: Reader, text: str) -> Reader | None:
        """The reader of a token that replaces that of ``reader``; None if it is another user's. Raises TokenEnded."""
        try:
            new = self.reader(text)
        except SubjectUnknown:  # the process has forgotten it, which the reader still knows
            if reader.jwt is None or self._keys is None:
                return None
            claims = self._keys.claims(text, self._audience)
            return _reader(reader.user_id, claims) if claims.subject == reader.jwt.subject else None
        return new if new.user_id == reader.user_id else None

    async def ensure_account(self, subject: str) -> int:
        """The id of that user, who gets an account if there is none. Raises SubjectInvalid, SubjectTaken, Unavailable.

        Requests at the same time share one lookup.
        """
        adding = self._adding.get(subject)
        if adding is None:
            adding = self._adding[subject] = asyncio.create_task(self._account_of(subject))
            adding.add_done_callback(lambda task: self._added_or_failed(subject, task))
        return await asyncio.shield(adding)

    async def added(self, usernames: Iterable[str]) -> dict[str, int]:
        """The ids of users of another site without an account, who get one, by name; without names not allowed."""
        ids: dict[str, int] = {}
        for name in usernames if self._keys is not None else ():
            with suppress(TokenEnded):
                ids[name] = await self.ensure_account(name)
        return ids

    async def known(self, username: str) -> User:
        """The user of that name; one of another site gets an account. Raises NotFound, Unavailable."""
        user = await self._find(username)
        if user is None and await self.added([username]):
            user = await self._find(username)
        if user is None:
            raise NotFound("unknown_user", name=username)
        return user

    async def end_all(self, username: str) -> str:
        """End all sessions of a user, and revoke all tokens made before; the user's name. Raises NotFound, Unavailable.

        A user of another site gets an account, so that a token that was not used here yet is revoked too.
        """
        user = await self.known(username)
        user_id = user.id

        def work(tx: Transaction) -> None:
            stored.end_sessions(tx, user_id)
            tokens.end_all(tx, user_id)

        await self._sessions.end(user_id, work)
        security_log.note("sessions_ended", user=user.username, user_id=user_id, by="api")
        return user.username

    def _added_or_failed(self, subject: str, task: asyncio.Task[int]) -> None:
        del self._adding[subject]
        if not task.cancelled():
            task.exception()  # there may be no request left that it is raised to

    async def _account_of(self, subject: str) -> int:
        if not is_storable(subject):
            raise SubjectInvalid
        user = await self._find(subject) or await self._added(subject)
        if user.username != subject or user.jwts_after is None:
            security_log.note("jwt_refused", user=user.username, reason="subject_taken")
            raise SubjectTaken(subject)
        if len(self._ids) >= REMEMBERED:
            del self._ids[next(iter(self._ids))]
        self._ids[subject] = user.id
        return user.id

    async def _added(self, subject: str) -> User:
        if subject != names.normalized(subject[: names.LONGEST]):
            raise SubjectInvalid
        for fault in await rules.name_faults(subject):
            raise SubjectInvalid(fault.reason, **fault.values)
        key, skeleton = names.key(subject), names.skeleton(subject)
        user = User(username=subject, username_key=key, username_skeleton=skeleton, password_hash="", jwts_after=0)
        try:
            await self._storage.write(lambda tx: stored.add(tx, user))
        except Invalid as error:
            found = await self._find(subject)  # another process may have been first
            if found is None:
                raise SubjectInvalid(error.reason) from None
            return found
        security_log.note("account_registered", user=user.username, user_id=user.id, by="jwt")
        return user

    async def _find(self, username: str) -> User | None:
        return await stored.by_name(self._storage, username)


def _reader(user_id: int, claims: Claims) -> Reader:
    return Reader(user_id, claims.token_hash, bearer=True, jwt=claims)

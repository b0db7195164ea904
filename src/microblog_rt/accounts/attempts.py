"""Limits on password attempts and registrations, counted before the expensive hash.

A sign-in counts for the account, for the address and for the whole site. A success is given back to the address and to
the site, so that many people can sign in from one address. Over the limit of the site sign-ins are delayed, not
refused. A known device (``devices.py``) and a session have an allowance of their own, so that guesses from elsewhere
refuse neither.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple
from weakref import WeakValueDictionary

from microblog_rt import names
from microblog_rt.secret_key import mac
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import Storage, Transaction, limits
from microblog_rt.timeouts import Timeouts

GLOBAL = "sign_in"
ASK_AGAIN = 0.05  # seconds
REMEMBERED_AT_MOST = 10  # seconds, where a success can make room


class Counted(NamedTuple):
    """Subjects with their limits: those that count every attempt, and the one that gives a success back."""

    always: dict[str, Limit | None]
    failures: str = ""
    limit: Limit | None = None

    @property
    def subjects(self) -> Sequence[str]:
        return [*self.always, self.failures]


class Attempt(NamedTuple):
    """A counted attempt: the rows that a success gives back, and whether the whole site is over its limit."""

    returned: Sequence[int] = ()
    delayed: bool = False


class Attempts:
    """Counts attempts, and raises TooMany for those over a limit, which are not counted.

    ``keys`` returns the secret keys.
    """

    def __init__(
        self, storage: Storage, settings: Settings, keys: Callable[[], Sequence[str]], timeouts: Timeouts
    ) -> None:
        self._storage = storage
        self._settings = settings
        self._keys = keys
        self._wait = timeouts.sign_in_wait
        self._delay = timeouts.sign_in_delay
        self._refusals = limits.Refusals()
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def sign_in(self, username: str, address: str) -> Attempt:
        """Count one password attempt for ``username``, which need not exist, from ``address``."""
        limit = self._settings.sign_in_limit
        always = {self._subject("sign_in:account", names.key(username)): limit}
        of_address = self._subject("sign_in:address", address) if address else ""
        attempt = await self._count(Counted(always, of_address, limit), self._settings.sign_in_global_limit)
        if attempt.delayed:
            await asyncio.sleep(self._delay)
        return attempt

    async def device(self, device_id: str, user_id: int) -> Attempt:
        """Count one password attempt of a known device."""
        subject = self._subject("sign_in:device", f"{device_id}:{user_id}")
        return await self._count(Counted({subject: self._settings.sign_in_limit}))

    async def session(self, token_hash: str) -> Attempt:
        """Count one password attempt in a session."""
        subject = self._subject("sign_in:session", token_hash)
        return await self._count(Counted({}, subject, self._settings.sign_in_limit))

    async def register(self, address: str) -> None:
        """Count one registration from ``address``, if that is known."""
        if address:
            await self._count(Counted({self._subject("register:address", address): self._settings.register_limit}))

    async def mail(self, kind: str, username: str, address: str) -> None:
        """Count one mail that was asked for: for ``username``, which need not exist, and from ``address``."""
        limit = self._settings.mail_limit
        counted = {self._subject(f"mail:{kind}:account", names.key(username)): limit}
        if address:
            counted[self._subject(f"mail:{kind}:address", address)] = limit and Limit(4 * limit.times, limit.seconds)
        await self._count(Counted(counted))

    async def mail_to(self, kind: str, email: str) -> None:
        """Count one mail to ``email``."""
        await self._count(Counted({self._subject(f"mail:{kind}:recipient", email.lower()): self._settings.mail_limit}))

    async def succeeded(self, attempt: Attempt) -> None:
        """Give back what only failures use up."""
        if attempt.returned:
            await self._storage.write(partial(limits.give_back, attempt.returned))

    async def _count(self, counted: Counted, global_limit: Limit | None = None) -> Attempt:
        if not (counted.limit or global_limit or any(counted.always.values())):
            return Attempt()
        take = partial(_take, counted, global_limit, self._refusals)
        line = self._lines.get(counted.failures)
        with limits.reported():
            if line is None:
                self._refusals.check(counted.subjects)
                try:
                    return await self._take(counted, take)
                except limits.OverLimit as error:
                    if error.subject != counted.failures:
                        raise
                line = self._lines.setdefault(counted.failures, asyncio.Lock())
            return await self._take_in_line(counted, take, line)

    async def _take_in_line(
        self, counted: Counted, take: Callable[[Transaction], Attempt], line: asyncio.Lock
    ) -> Attempt:
        """Take when an attempt that is being checked succeeds; refuse if none does within ``Timeouts.sign_in_wait``.

        One attempt of a subject at a time asks the database again.
        """
        async with line:
            self._refusals.check(counted.subjects)
            end = asyncio.get_running_loop().time() + self._wait
            while True:
                try:
                    return await self._take(counted, take)
                except limits.OverLimit as error:
                    if error.subject != counted.failures:
                        raise
                    if asyncio.get_running_loop().time() >= end:
                        self._refusals.note(error, REMEMBERED_AT_MOST)
                        raise
                await asyncio.sleep(ASK_AGAIN)

    async def _take(self, counted: Counted, take: Callable[[Transaction], Attempt]) -> Attempt:
        try:
            return await self._storage.write(take)
        except limits.OverLimit as error:
            if error.subject != counted.failures:
                self._refusals.note(error)
            raise

    def _subject(self, kind: str, name: str) -> str:
        """A subject of fixed length, from which neither a name nor an address can be found without the secret key."""
        return f"{kind}:{mac(self._keys()[0], 'limit', kind, name).hex()}"


def _take(counted: Counted, global_limit: Limit | None, refusals: limits.Refusals, tx: Transaction) -> Attempt:
    refusals.check(counted.subjects)  # again, since hundreds may have waited for the database
    for subject, limit in counted.always.items():
        limits.take(tx, subject, limit)
    returned = [limits.take(tx, counted.failures, counted.limit)] if counted.failures else []
    try:
        returned.append(limits.take(tx, GLOBAL, global_limit))
        delayed = False
    except limits.OverLimit:
        delayed = True
    return Attempt([each for each in returned if each is not None], delayed)

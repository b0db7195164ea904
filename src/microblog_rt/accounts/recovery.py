"""The e-mail address of an account, and the links in mails: to confirm a new address, to set a new password.

A link is valid for an hour and works once; the database holds the hash of its token. A new password, another address,
and disabling the account end every link of the user.
"""

import secrets
from typing import NamedTuple

from microblog_rt import security_log
from microblog_rt.accounts import Accounts, Check, rules
from microblog_rt.accounts.sessions import token_hash
from microblog_rt.errors import Forbidden, Invalid, NotFound, TooMany
from microblog_rt.mail import Mailer, deliverable
from microblog_rt.models import OneTimeLink, User
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.storage import Storage, Transaction, links
from microblog_rt.storage import accounts as stored
from microblog_rt.storage.links import Link

LASTS = 3600  # seconds

PASSWORD, EMAIL = OneTimeLink.PASSWORD, OneTimeLink.EMAIL


class Letter(NamedTuple):
    """A mail in its reader's language, with places for ``%(name)s`` and, if it has a link, ``%(url)s``."""

    subject: str
    text: str
    link: str = ""  # its address, up to the token

    def filled(self, name: str, token: str = "") -> tuple[str, str]:
        """The subject and the text for the user ``name``."""
        values = {"name": name, "url": self.link + token}
        return self.subject % values, self.text % values


class Recovery:
    """Changes e-mail addresses, and sets forgotten passwords."""

    def __init__(self, accounts: Accounts, storage: Storage, mailer: Mailer) -> None:
        self._accounts = accounts
        self._storage = storage
        self._mailer = mailer

    @property
    def enabled(self) -> bool:
        """Whether links can be sent."""
        return self._mailer.enabled

    async def ask_password(self, username: str, address: str, letter: Letter) -> None:
        """Send a link to set a new password, if that user exists and has an address; the caller does not learn it.

        Counted for the name and the client's ``address``. Raises Forbidden without mail, TooMany.
        """
        self._check_enabled()
        await self._count(PASSWORD, username, address)
        self._mailer.begin(self._send_password_link(username, letter))

    async def password_link(self, token: str) -> User:
        """The user whose password that token sets. Raises NotFound."""
        link = await self._find(PASSWORD, token)
        return await self._accounts.known(link.username or "")

    async def reset_password(self, token: str, password: str) -> User:
        """Set the password with a link, and end every session, token and link of the user, who is returned.

        Raises NotFound, Invalid.
        """
        link = await self._find(PASSWORD, token)

        def use_up(tx: Transaction) -> None:
            if not links.take(tx, PASSWORD, token_hash(token)):
                raise NotFound("link_ended")

        return await self._accounts.set_password(link.username or "", password, use_up, "password_reset")

    async def pending_email(self, user_id: int) -> str | None:
        """The address that the user was asked to confirm; None without one."""
        async with self._storage.reading() as reading:
            return await links.pending_email(reading, user_id)

    async def ask_email(self, user: User, email: str, address: str, letter: Letter) -> None:
        """Send a link to ``email`` that makes it the user's address; earlier ones end.

        Counted for the user, for the client's ``address`` and for ``email``. Raises Forbidden without mail, Invalid,
        TooMany.
        """
        self._check_enabled()
        self._check_email(user, email)
        await self._count(EMAIL, user.username, address)
        await self._accounts.counted(self._accounts.attempts.mail_to(EMAIL, email), user.username)
        token = secrets.token_urlsafe(32)

        def work(tx: Transaction) -> None:
            if stored.credentials(tx, user.id).disabled:
                raise Invalid("email", "account_disabled")
            links.end_email(tx, user.id)
            links.add(tx, EMAIL, token_hash(token), LASTS * MICROSECONDS, user.id, email)

        await self._storage.write(work)
        security_log.note("email_asked", user=user.username, user_id=user.id)
        self._mailer.begin(self._send(email, letter, user.username, token))

    async def email_link(self, token: str) -> Link:
        """The user and the address which that token confirms. Raises NotFound."""
        return await self._find(EMAIL, token)

    async def confirm_email(self, token: str, told: Letter) -> Link:
        """Make the link's address its user's, and send ``told`` to the former one. Raises NotFound."""
        link = await self._find(EMAIL, token)

        def use_up(tx: Transaction) -> None:
            if not links.take(tx, EMAIL, token_hash(token)):
                raise NotFound("link_ended")

        await self._set_email(link.user_id or 0, link.username or "", link.email, told, use_up)
        return link

    async def set_email(self, user: User, email: str | None, told: Letter | None) -> None:
        """Replace or remove (None) the address at once, and send ``told`` to the former one. Raises Invalid."""
        if email is not None:
            self._check_email(user, email)
        await self._set_email(user.id, user.username, email, told)

    async def _set_email(
        self, user_id: int, name: str, email: str | None, told: Letter | None, check: Check = lambda _: None
    ) -> None:
        def work(tx: Transaction) -> str | None:
            former = stored.credentials(tx, user_id).email
            check(tx)
            links.end_all(tx, user_id)
            stored.set_email(tx, user_id, email)
            return former

        former = await self._storage.write(work)
        security_log.note("email_changed" if email else "email_removed", user=name, user_id=user_id)
        if former and former != email and told is not None and self.enabled:
            self._mailer.begin(self._send(former, told, name))

    async def _send_password_link(self, username: str, letter: Letter) -> None:
        user = await self._accounts.find(username)
        if user is None or user.jwts_after is not None or not user.email:
            return
        try:
            await self._accounts.counted(self._accounts.attempts.mail_to(PASSWORD, user.email), username)
        except TooMany:
            return
        token = secrets.token_urlsafe(32)

        def work(tx: Transaction) -> bool:
            credentials = stored.credentials(tx, user.id)
            if credentials.disabled or credentials.email != user.email:
                return False
            links.add(tx, PASSWORD, token_hash(token), LASTS * MICROSECONDS, user.id, user.email)
            return True

        if await self._storage.write(work):
            security_log.note("password_link_sent", user=user.username, user_id=user.id)
            await self._send(user.email, letter, user.username, token)

    async def _send(self, email: str, letter: Letter, name: str, token: str = "") -> None:
        to = deliverable(email)
        if to is not None:  # an address of an earlier release may be malformed
            await self._mailer.send(to, *letter.filled(name, token))

    async def _count(self, kind: str, username: str, address: str) -> None:
        await self._accounts.counted(self._accounts.attempts.mail(kind, username, address), username)

    async def _find(self, kind: str, token: str) -> Link:
        link = await links.find(self._storage, kind, token_hash(token))
        if link is None:
            raise NotFound("link_ended")
        return link

    def _check_enabled(self) -> None:
        if not self.enabled:
            raise Forbidden("mail_off")

    def _check_email(self, user: User, email: str) -> None:
        for fault in rules.email_faults(email):
            raise fault
        if not email or deliverable(email) is None:
            raise Invalid("email", "email_format")
        if email == user.email:
            raise Invalid("email", "email_same")

"""Who may register: every visitor, those with an invitation, or none."""

import secrets

from microblog_rt import security_log
from microblog_rt.account_settings import CLOSED, INVITE
from microblog_rt.accounts import Accounts
from microblog_rt.accounts.sessions import token_hash
from microblog_rt.errors import Forbidden, Invalid
from microblog_rt.models import OneTimeLink, User
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage, Transaction, links


class Registration:
    """Registers visitors as ``MICROBLOG_REGISTRATION`` says; an operator's command does without."""

    def __init__(self, accounts: Accounts, storage: Storage, settings: Settings) -> None:
        self._accounts = accounts
        self._storage = storage
        self._closed = settings.registration == CLOSED
        self.needs_invitation = settings.registration == INVITE

    def check_open(self) -> None:
        """Raise Forbidden if registration is closed."""
        if self._closed:
            raise Forbidden("registration_closed")

    async def check_invitation(self, code: str) -> None:
        """Raise Invalid if an invitation is needed and ``code`` is not one that can be used."""
        if self.needs_invitation:
            if not code:
                raise Invalid("invitation", "invitation_missing")
            if await links.find(self._storage, OneTimeLink.INVITATION, token_hash(code)) is None:
                raise Invalid("invitation", "invitation_ended")

    async def register(self, username: str, password: str, email: str | None, address: str, code: str) -> User:
        """Create an account as ``Accounts.register`` does, using up the invitation ``code`` if one is needed.

        Raises Forbidden if registration is closed, Invalid, TooMany.
        """
        self.check_open()
        await self.check_invitation(code)

        def use_up(tx: Transaction) -> None:
            if self.needs_invitation and not links.take(tx, OneTimeLink.INVITATION, token_hash(code)):
                raise Invalid("invitation", "invitation_ended")  # another registration has used it meanwhile

        return await self._accounts.register(username, password, email, address, use_up)

    async def invite(self, lasts: int) -> str:
        """A new code for one registration within ``lasts`` seconds; the database holds its hash."""
        code = secrets.token_urlsafe(16)
        hashed = token_hash(code)
        await self._storage.write(lambda tx: links.add(tx, OneTimeLink.INVITATION, hashed, lasts * MICROSECONDS))
        security_log.note("invitation_created")
        return code

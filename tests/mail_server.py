"""An SMTP server on a real socket, which records mails and answers as a test says."""

import asyncio
import email
import email.policy
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any, NamedTuple

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.clients import DEADLINE

ACCEPTED = "250 OK"


class Mail(NamedTuple):
    """A mail as it arrived: the envelope's addresses, and the message."""

    sender: str
    recipients: list[str]
    message: EmailMessage

    @property
    def text(self) -> str:
        return str(self.message.get_content()).replace("\r\n", "\n")

    @property
    def link(self) -> str:
        """The path of the link in it."""
        found = re.search(r"^https?://[^/\s]+(/\S+)$", self.text, re.MULTILINE)
        assert found, self.text
        return found[1]


class MailServer:
    """Records mails, and answers each with the next of ``answers``, or else accepts it."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.attempts = 0
        self.answers: list[str] = []
        self.host, self.port = "127.0.0.1", 0
        self.open = asyncio.Event()  # otherwise no answer is given
        self.open.set()
        self.credentials: list[tuple[str, str]] = []
        self._arrived = asyncio.Event()

    @property
    def url(self) -> str:
        return f"smtp://{self.host}:{self.port}"

    async def arrived(self, count: int) -> list[Mail]:
        """All mails, once there are ``count``."""
        async with asyncio.timeout(DEADLINE):
            while len(self.mails) < count:
                self._arrived.clear()
                await self._arrived.wait()
        assert len(self.mails) == count, self.mails
        return self.mails

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.attempts += 1
        await self.open.wait()
        answer = self.answers.pop(0) if self.answers else ACCEPTED
        if answer == ACCEPTED:
            assert isinstance(envelope.content, bytes)
            message: Any = email.message_from_bytes(envelope.content, policy=email.policy.default)
            self.mails.append(Mail(str(envelope.mail_from), list(envelope.rcpt_tos), message))
            self._arrived.set()
        return answer

    def authenticate(self, *arguments: Any) -> AuthResult:
        found = arguments[-1]
        assert isinstance(found, LoginPassword)
        self.credentials.append((found.login.decode(), found.password.decode()))
        return AuthResult(success=True)


@asynccontextmanager
async def mail_server(
    host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None
) -> AsyncIterator[MailServer]:
    """A server on ``host``; ``tls``: from the first byte, ``starttls``: after that command, which it then requires."""
    server, protocols = MailServer(), []
    loop = asyncio.get_running_loop()

    def protocol() -> SMTP:
        options: dict[str, Any] = {"auth_require_tls": False} if starttls is None else {"tls_context": starttls}
        protocols.append(
            SMTP(
                server,
                loop=loop,
                hostname="localhost",
                authenticator=server.authenticate,
                enable_SMTPUTF8=True,
                **options,
            )
        )
        return protocols[-1]

    listening = await loop.create_server(protocol, host, 0, ssl=tls)
    server.host, server.port = host, listening.sockets[0].getsockname()[1]
    yield server
    server.open.set()
    listening.close()
    await listening.wait_closed()
    for each in protocols:
        if each.transport is not None:
            each.transport.close()

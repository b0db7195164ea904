"""Mail over SMTP: plain text, sent in the background, with a few attempts.

A server on this machine is used without encryption; any other needs TLS: STARTTLS, or ``smtps://``.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid, parseaddr
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from microblog_rt.account_settings import ADDRESS
from microblog_rt.settings import LOOPBACK, Settings
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)

AT_ONCE = 4  # connections
WAITING = 500  # mails
ATTEMPTS = 3
PERMANENT = 500  # from this reply code on, another attempt would fail as well


class Failure(NamedTuple):
    """Why an attempt failed, without the server's text, which names addresses; ``permanent``: another would as well."""

    reason: str
    permanent: bool = False


class Mailer:
    """Sends mails; the caller awaits ``close`` at the end."""

    def __init__(self, settings: Settings, timeouts: Timeouts) -> None:
        self._from = settings.mail_from or ""
        self._timeouts = timeouts
        self._connections = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._url = urlsplit(settings.smtp_url or "")

    @property
    def enabled(self) -> bool:
        """Whether mail is configured."""
        return bool(self._url.scheme)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work``, which sends a mail, in the background, after a pause in which the response is given.

        So neither the content of the response nor its time depends on what ``work`` finds.
        """
        if len(self._tasks) >= WAITING:
            work.close()
            log.error("mail not sent: %d others wait", WAITING)
            return
        task = asyncio.create_task(self._later(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send(self, to: str, subject: str, text: str) -> None:
        """Send a mail, in up to three attempts. ``to`` is ``deliverable``. A failure is logged."""
        message = self._message(to, subject, text)
        pause = self._timeouts.mail_retry
        for attempt in range(1, ATTEMPTS + 1):
            failure = await self._attempt(message, to)
            if failure is None:
                return
            if attempt == ATTEMPTS or failure.permanent:
                log.error("mail not sent, attempt %d: %s", attempt, failure.reason)
                return
            await asyncio.sleep(pause)
            pause *= 4

    async def close(self) -> None:
        """Wait a moment for the mails that are being sent, and give up the others."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timeouts.mail_on_close)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if left:
            log.error("mails not sent since the process ends: %d", len(left))

    async def _later(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await asyncio.sleep(self._timeouts.mail_pause)
            await work
        except Exception:
            log.exception("mail not sent")
        finally:
            work.close()

    def _message(self, to: str, subject: str, text: str) -> EmailMessage:
        message = EmailMessage(policy=SMTP)
        message["From"] = self._from
        message["To"] = Address(addr_spec=to)
        message["Subject"] = subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        return message

    @property
    def _sender(self) -> str:
        return parseaddr(self._from)[1]

    async def _attempt(self, message: EmailMessage, to: str) -> Failure | None:
        import aiosmtplib  # of the extra "mail"

        url = self._url
        secure = url.scheme == "smtps"
        client = aiosmtplib.SMTP(
            hostname=url.hostname,
            port=url.port or (465 if secure else 587),
            username=None if url.username is None else unquote(url.username),
            password=None if url.password is None else unquote(url.password),
            use_tls=secure,
            start_tls=False if secure else url.hostname not in LOOPBACK,
            timeout=self._timeouts.mail_send,
        )
        try:
            async with self._connections:
                async with asyncio.timeout(self._timeouts.mail_send):
                    await client.connect()
                    await client.send_message(message, sender=self._sender, recipients=[to])
                with contextlib.suppress(aiosmtplib.SMTPException, OSError):  # the mail was accepted
                    await client.quit()
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _refused(error, max(each.code for each in error.recipients))
        except aiosmtplib.SMTPResponseException as error:
            return _refused(error, error.code)
        except (aiosmtplib.SMTPException, OSError) as error:  # TimeoutError is one
            return Failure(type(error).__name__)
        finally:
            client.close()  # "async with client" would wait for the answer to QUIT even when cancelled
        return None


def deliverable(address: str) -> str | None:
    """The address as SMTP takes it, its domain in ASCII; None if no mail can be sent to it."""
    local, _, domain = address.rpartition("@")
    try:
        ascii_address = f"{local}@{domain.encode('idna').decode()}"
        Address(addr_spec=ascii_address)
    except (ValueError, MessageError):
        return None
    return ascii_address if ADDRESS.fullmatch(ascii_address) else None


def _refused(error: Exception, code: int) -> Failure:
    return Failure(f"{type(error).__name__} {code}", permanent=code >= PERMANENT)

"""The account of the demo that answers: it follows its own notifications, as a client does.

An answer has an idempotency key made from the message that it answers. So a message is answered once, however many
processes serve the demo, and whether or not one of them has stopped in between.
"""

import asyncio
import contextlib
import logging
from contextlib import aclosing

from microblog_rt.accounts import Reader, token_hash
from microblog_rt.errors import Draining, KeyReused, Refused, SignedOut, TooMany, Unavailable
from microblog_rt.messages import Post
from microblog_rt.models import User
from microblog_rt.services import Services
from microblog_rt.storage.counters import UNREAD_MESSAGES

log = logging.getLogger(__name__)

NAME = "guide"
ANSWERS = (
    "This answer arrived without a reload. Write again, then go to Home at once: the badge counts my next answer.",
    "Open a second tab and write again from there: the badge changes in both at the same moment, with the same number.",
    "Sign in as bob in a private window and write to alice. Each of them sees only their own count.",
    "Make the window as narrow as a phone: the badge stays in view. What you open and see is marked as read.",
    "Stop the server with Ctrl-C and start it again. The tab reconnects by itself, and the number is still right.",
)
ANSWER_AFTER = 1.5  # seconds
RETRY_AFTER = 3.0  # seconds
READ_AT_ONCE = 50  # messages; of more that wait, the oldest are marked as read without an answer


async def run(services: Services) -> None:
    """Answer what the guide receives, until the process drains or the account is gone."""
    while True:
        try:
            user = await services.accounts.find(NAME)
            if user is None:
                return
            await _follow(services, user)
        except Draining:
            return
        except (SignedOut, Unavailable):
            pass  # the session has ended, or storage has logged it
        except Exception:
            log.exception("automatic answers failed, retrying after %.0f s", RETRY_AFTER)
        await asyncio.sleep(RETRY_AFTER)


async def _follow(services: Services, user: User) -> None:
    """Answer whenever the guide's count says that there are unread messages. Raises what ends the stream."""
    token = await services.sessions.start_session(user, remembered=False, device="demo")
    reader = Reader(user.id, token_hash(token))
    try:
        names = [UNREAD_MESSAGES.name]
        async with aclosing(services.feed.follow(reader, 0, names, heartbeat=RETRY_AFTER)) as pages:
            unread = 0
            async for notifications in pages:
                unread = notifications[-1].data if notifications else unread
                if unread:
                    await _answer_all(services, user)
    finally:
        with contextlib.suppress(Unavailable):
            await services.sessions.end_session(reader)


async def _answer_all(services: Services, user: User) -> None:
    """Answer the newest unread message of each sender, then mark all of them as read."""
    received = (await services.messages.inbox(user.id, READ_AT_ONCE)).rows
    newest = {each.author.id: each for each in reversed(received) if each.unread and each.author.id != user.id}
    if newest:
        await asyncio.sleep(ANSWER_AFTER)
    try:
        for message in newest.values():
            await _answer(services, user, message)
    except TooMany:
        return  # the heartbeat retries
    if received:
        await services.messages.mark_read(user.id, last=received[0].timestamp)


async def _answer(services: Services, user: User, message: Post) -> None:
    """Answer a message, unless it was answered, or its sender cannot receive messages any more."""
    lines = (await services.conversations.exchange(user.id, message.author.id, READ_AT_ONCE)).rows
    given = [ANSWERS.index(each.body) for each in lines if each.own and each.body in ANSWERS]
    body = ANSWERS[(given[-1] + 1) % len(ANSWERS) if given else 0]
    try:
        await services.messages.send_message(
            user.id, message.author.id, body, program_key=f"demo-answer-{message.timestamp}"
        )
    except (TooMany, Unavailable):
        raise
    except KeyReused:
        pass  # another process has answered it, with another sentence
    except Refused as error:
        log.info("message of %s not answered: %s", message.author.username, error)

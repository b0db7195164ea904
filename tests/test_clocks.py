"""A host's clock that is set forward or back, by an hour or a day, while everything runs."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from quart import Quart
from sqlalchemy import update

from microblog_rt.app import create_app
from microblog_rt.errors import Invalid, TooMany
from microblog_rt.models import Attempt, User
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Limit, Settings
from tests.clients import send
from tests.conftest import PASSWORD
from tests.web.conftest import Browser, field
from tests.web.conftest import text as page_text

HOUR, DAY = 3600, 86400
JUMPS = [-DAY, -HOUR, HOUR, DAY]
SLOW = 60.0  # seconds that a test may take

SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Set the host's clock so many seconds off. With SQLite this is the clock of the database too."""
    real, real_ns = time.time, time.time_ns

    def set_clock(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + seconds)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + round(seconds * 1e9))

    return set_clock


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Quart]:
    app = create_app(settings)
    async with app.test_app():
        yield app


@pytest.mark.parametrize("jump", JUMPS)
async def test_session_and_open_form_stay_valid(app: Quart, set_clock: SetClock, jump: int) -> None:
    """Also in a process that has not seen the cookie yet."""
    bob = Browser(app.test_client())
    await bob.register("bob")
    await bob.post("/auth/logout")
    await bob.post("/auth/login", username="bob", password=PASSWORD, remember_me="y")
    form = await page_text(await bob.get("/send_message/bob"))
    app.extensions["authentication"]._cached.cache_clear()
    set_clock(jump)
    fields: dict[str, Any] = {name: field(form, name) for name in ("csrf_token", "nonce")}
    sent = await bob.post("/send_message/bob", message="hello", **fields)
    assert (sent.status_code, sent.headers["Location"].partition("#")[0]) == (303, "/user/bob")
    assert (await bob.get("/notifications")).status_code == 200


async def test_messages_sent_after_the_clock_was_ahead_have_their_own_time(
    services: Services, susan: User, set_clock: SetClock
) -> None:
    began = time.time()
    for jump in (DAY, 0, -DAY, 0):
        set_clock(jump)
        await send(services, susan, f"{jump}")
    posts = (await services.messages.inbox(susan.id, 10)).rows[::-1]
    assert [post.body for post in posts] == [f"{DAY}", "0", f"{-DAY}", "0"], "the mailbox clock orders"
    for last in (posts[1], posts[3]):
        assert abs(last.created / MICROSECONDS - began) < SLOW


@pytest.mark.parametrize("jump", JUMPS)
async def test_limit_waits_no_longer_than_its_window(settings: Settings, set_clock: SetClock, jump: int) -> None:
    services = assemble(replace(settings, send_limit=Limit(2, 60)))
    susan = await services.accounts.register("susan", PASSWORD)

    async def send_over_the_limit() -> int:
        """Send until refused; the seconds to wait."""
        with pytest.raises(TooMany) as refused:
            for number in range(3):
                await services.messages.send_message(susan.id, susan.id, f"{number}")
        return refused.value.retry_after or 0

    assert await send_over_the_limit() <= 60
    set_clock(jump)
    if settings.sqlite_file is None:  # the same for the rows, since PostgreSQL's clock cannot be set
        shift = update(Attempt).values(expires=Attempt.expires - jump * MICROSECONDS)
        await services.storage.write(lambda tx: tx.execute(shift))
    assert await send_over_the_limit() <= 60
    await services.close()


@pytest.mark.sqlite
@pytest.mark.parametrize("jump", JUMPS)
async def test_refused_sign_in_waits_no_longer_than_its_window(
    settings: Settings, set_clock: SetClock, jump: int
) -> None:
    """What a process remembers of a refusal."""
    services = assemble(replace(settings, sign_in_limit=Limit(1, 60)))
    refusals = []
    for offset in (0, 0, 0, jump, 0):
        set_clock(offset)
        with pytest.raises((TooMany, Invalid)) as refused:
            await services.accounts.check_password("nobody", PASSWORD, "192.0.2.1")
        refusals.append(refused.value)
    waits = [each.retry_after or 0 for each in refusals if isinstance(each, TooMany)]
    assert len(waits) >= 3
    assert max(waits) <= 60
    await services.close()

"""The users of the proof, inserted into the database with a session and the cookies of a signed-in browser.

Every other user belongs to another site, which signs tokens (JWTs); the others have access tokens.
"""

import time
from functools import partial
from typing import NamedTuple

from quart import Quart

from microblog_rt.accounts import token_hash
from microblog_rt.models import READ_NOTIFICATIONS, User
from microblog_rt.services import Services
from microblog_rt.storage import accounts as rows
from microblog_rt.web.authentication import Authentication
from microblog_rt.web.forms import new_token
from tests import site_tokens

BROWSER = "a-browser-of-the-proof"
LASTS = 24 * 3600 * 1_000_000  # microseconds
BEARER_LASTS = 12 * 3600  # seconds


class Person(NamedTuple):
    """A signed-in user: id, name, Cookie header, CSRF token, a bearer token, and whether the user reads messages."""

    id: int
    name: str
    cookie: str
    token: str
    bearer: str
    reads: bool


async def make(app: Quart, count: int) -> list[Person]:
    """Create ``count`` users; every fifth of them reads messages."""
    services: Services = app.extensions["services"]
    authentication: Authentication = app.extensions["authentication"]
    browser = f"{app.config['BROWSER_COOKIE_NAME']}={BROWSER}"
    people = []
    for number in range(count):
        name, token = f"person{number}", f"token-of-person-{number}"
        jwts_after = 0 if number % 2 else None
        user = User(username=name, username_key=name, email=None, password_hash="none", jwts_after=jwts_after)
        await services.storage.write(partial(rows.add, user=user))
        await services.storage.write(
            partial(rows.add_session, user_id=user.id, token_hash=token_hash(token), remembered=True, lasts=LASTS)
        )
        session = f"{authentication.cookie_name}={authentication.dump_token(f'{user.id}.{token}', app)}"
        csrf = new_token(str(app.secret_key), BROWSER, user.id)
        bearer = await _bearer(services, user)
        people.append(Person(user.id, name, f"{session}; {browser}", csrf, bearer, number % 5 == 0))
    return people


async def _bearer(services: Services, user: User) -> str:
    if user.jwts_after is None:
        return await services.tokens.add(user, "proof", [READ_NOTIFICATIONS])
    return site_tokens.signed(user.username, aud=None, exp=int(time.time()) + BEARER_LASTS)

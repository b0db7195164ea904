"""The users of the proof, inserted into the database with a session and the cookies of a signed-in browser."""

from functools import partial
from typing import NamedTuple

from quart import Quart

from microblog_rt.accounts import token_hash
from microblog_rt.models import User
from microblog_rt.services import Services
from microblog_rt.storage import accounts as rows
from microblog_rt.web.authentication import Authentication
from microblog_rt.web.forms import new_token

BROWSER = "a-browser-of-the-proof"
LASTS = 24 * 3600 * 1_000_000  # microseconds


class Person(NamedTuple):
    """A signed-in user: id, name, Cookie header, CSRF token, and whether the user reads messages."""

    id: int
    name: str
    cookie: str
    token: str
    reads: bool


async def make(app: Quart, count: int) -> list[Person]:
    """Create ``count`` users; every fifth of them reads messages."""
    services: Services = app.extensions["services"]
    authentication: Authentication = app.extensions["authentication"]
    browser = f"{app.config['BROWSER_COOKIE_NAME']}={BROWSER}"
    people = []
    for number in range(count):
        name, token = f"person{number}", f"token-of-person-{number}"
        user = User(username=name, username_key=name, email=None, password_hash="none")
        await services.storage.write(partial(rows.add, user=user))
        await services.storage.write(
            partial(rows.add_session, user_id=user.id, token_hash=token_hash(token), remembered=True, lasts=LASTS)
        )
        session = f"{authentication.cookie_name}={authentication.dump_token(f'{user.id}.{token}', app)}"
        csrf = new_token(str(app.secret_key), BROWSER, user.id)
        people.append(Person(user.id, name, f"{session}; {browser}", csrf, number % 5 == 0))
    return people

"""The users of the proof, inserted into the database with a session and the cookies of a signed-in browser."""

from functools import partial
from typing import NamedTuple

from quart import Quart
from quart.sessions import SecureCookieSessionInterface

from microblog_rt.accounts import token_hash
from microblog_rt.models import User
from microblog_rt.services import Services
from microblog_rt.storage import accounts as rows
from microblog_rt.web.authentication import Authentication

CSRF = "a-token-for-the-proof"
LASTS = 24 * 3600 * 1_000_000  # microseconds


class Person(NamedTuple):
    """A signed-in user: id, name, Cookie header, and whether the user reads messages."""

    id: int
    name: str
    cookie: str
    reads: bool


async def make(app: Quart, count: int) -> list[Person]:
    """Create ``count`` users; every fifth of them reads messages."""
    services: Services = app.extensions["services"]
    authentication: Authentication = app.extensions["authentication"]
    interface = app.session_interface
    assert isinstance(interface, SecureCookieSessionInterface)
    serializer = interface.get_signing_serializer(app)
    assert serializer is not None
    form = f"{app.config['SESSION_COOKIE_NAME']}={serializer.dumps({'csrf_token': CSRF})}"
    people = []
    for number in range(count):
        name, token = f"person{number}", f"token-of-person-{number}"
        user = User(username=name, username_key=name, email=None, password_hash="none")
        await services.storage.write(partial(rows.add, user=user))
        await services.storage.write(
            partial(rows.add_session, user_id=user.id, token_hash=token_hash(token), remembered=True, lasts=LASTS)
        )
        session = f"{authentication.cookie_name}={authentication.dump_token(f'{user.id}.{token}', app)}"
        people.append(Person(user.id, name, f"{session}; {form}", number % 5 == 0))
    return people

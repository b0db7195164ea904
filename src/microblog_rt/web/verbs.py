"""What the pages may ask for: the verbs, handed in once when the application is made."""

from typing import NamedTuple, cast

from quart import current_app

from microblog_rt.accounts import Accounts
from microblog_rt.bus import Bus
from microblog_rt.feed import Feed
from microblog_rt.hub import Hub
from microblog_rt.messages import Messages
from microblog_rt.storage import Storage


class Verbs(NamedTuple):
    accounts: Accounts
    messages: Messages
    feed: Feed
    hub: Hub
    storage: Storage
    bus: Bus


def verbs() -> Verbs:
    """The verbs of the application that answers the present request."""
    return cast(Verbs, current_app.extensions["verbs"])

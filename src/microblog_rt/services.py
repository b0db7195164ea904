"""Every service of one process, wired from the settings.

See also: ``app.py``, which puts the web application in front of them.
"""

from typing import NamedTuple

from microblog_rt import bus
from microblog_rt.accounts import Accounts
from microblog_rt.feed import Feed
from microblog_rt.hub import Hub
from microblog_rt.messages import Messages
from microblog_rt.notifications import Notifications
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage


class Services(NamedTuple):
    """The services, and what they share; the caller awaits ``close`` at the end."""

    storage: Storage
    hub: Hub
    bus: bus.Bus
    notifications: Notifications
    accounts: Accounts
    messages: Messages
    feed: Feed

    async def close(self) -> None:
        """Wait for pending writes, publish their signals, then close every connection."""
        try:
            await self.storage.close()
        finally:
            await self.bus.close()


def assemble(settings: Settings) -> Services:
    """Create the services for ``settings``; nothing connects before it is used."""
    storage = Storage(settings.database_url)
    the_bus = bus.connect(settings.bus_url, settings.database_url)
    hub = Hub(the_bus)
    notifications = Notifications(storage, hub, the_bus)
    accounts = Accounts(storage, notifications, settings)
    messages = Messages(storage, notifications, settings)
    return Services(storage, hub, the_bus, notifications, accounts, messages, Feed(storage, hub, the_bus, accounts))

"""Every service of one process, wired from the settings.

See also: ``app.py``, which puts the web application in front of them.
"""

from typing import NamedTuple

from microblog_rt import bus, files
from microblog_rt.accounts import Accounts, Sessions, SiteUsers, Tokens
from microblog_rt.accounts.export import Export
from microblog_rt.accounts.recovery import Recovery
from microblog_rt.accounts.registration import Registration
from microblog_rt.accounts.removal import Removal
from microblog_rt.conversations import Conversations
from microblog_rt.deliveries import Deliveries
from microblog_rt.feed import Feed
from microblog_rt.hub import Hub
from microblog_rt.mail import Mailer
from microblog_rt.mailboxes import Mailboxes
from microblog_rt.messages import Messages
from microblog_rt.notifications import Notifications
from microblog_rt.posts import Posts
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage
from microblog_rt.timeouts import Timeouts


class Services(NamedTuple):
    """The services, and what they share; the caller awaits ``close`` at the end."""

    storage: Storage
    hub: Hub
    bus: bus.Bus
    mailboxes: Mailboxes
    notifications: Notifications
    sessions: Sessions
    tokens: Tokens
    site_users: SiteUsers
    accounts: Accounts
    registration: Registration
    recovery: Recovery
    mailer: Mailer
    export: Export
    removal: Removal
    messages: Messages
    conversations: Conversations
    feed: Feed
    deliveries: Deliveries
    posts: Posts

    async def close(self) -> None:
        """Wait a moment for mails, end reads, wait for writes, publish their signals, then close every connection."""
        await self.mailer.close()
        await self.feed.close()
        try:
            await self.storage.close()
        finally:
            await self.bus.close()


def assemble(settings: Settings, timeouts: Timeouts = Timeouts()) -> Services:
    """Create the services for ``settings``; nothing connects before it is used."""
    if settings.sqlite_file is not None:
        files.make_database_private(settings.sqlite_file)
    storage = Storage(settings.database_url, timeouts)
    the_bus = bus.connect(settings.bus_url, settings.database_url, timeouts)
    hub = Hub(the_bus)
    mailboxes = Mailboxes(storage, hub, the_bus)
    sessions = Sessions(storage, mailboxes, settings, timeouts)
    site_users = SiteUsers(storage, sessions, settings)
    messages = Messages(storage, mailboxes, settings)
    accounts, mailer = Accounts(storage, sessions, settings, timeouts), Mailer(settings, timeouts)
    tokens = Tokens(storage, sessions, site_users.forget)
    deliveries = Deliveries(storage, mailboxes)
    return Services(
        storage,
        hub,
        the_bus,
        mailboxes,
        Notifications(mailboxes, storage, settings.publish_limit),
        sessions,
        tokens,
        site_users,
        accounts,
        Registration(accounts, storage, settings),
        Recovery(accounts, storage, mailer),
        mailer,
        Export(storage, sessions, tokens),
        Removal(storage, accounts, messages, mailboxes),
        messages,
        Conversations(storage, mailboxes),
        Feed(storage, hub, the_bus, timeouts, tokens.note_use, site_users.forget),
        deliveries,
        Posts(storage, mailboxes, deliveries, settings),
    )

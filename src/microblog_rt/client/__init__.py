"""A client that loses nothing: notifications over WebSocket, SSE, long poll or poll, whatever the network allows.

    async with Client(url, token) as client:
        async for notification in client.notifications():
            print(notification.name, notification.data)

It needs the extra ``client``, and imports nothing of the server. See also: ``docs/clients.md``.
"""

from microblog_rt.client.client import Client
from microblog_rt.client.errors import (
    ClientError,
    Forbidden,
    Invalid,
    KeyReused,
    NotFound,
    Rejected,
    SignedOut,
    TooMany,
    Unavailable,
    Unreachable,
)
from microblog_rt.client.events import Notification, Status
from microblog_rt.client.sync import SyncClient

__all__ = [
    "Client",
    "ClientError",
    "Forbidden",
    "Invalid",
    "KeyReused",
    "NotFound",
    "Notification",
    "Rejected",
    "SignedOut",
    "Status",
    "SyncClient",
    "TooMany",
    "Unavailable",
    "Unreachable",
]

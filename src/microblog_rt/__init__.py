"""A small microblog with private messages whose unread badge is live and always right.

The path of a message, file by file:

    web/messages.py   the form
    messages.py       the service: what a send writes
    mailboxes.py      one transaction: locks the mailbox, ticks its clock, counts, notifies; then signals
    hub.py, bus/      the subscribers of this process, and the other processes
    feed/             what is newer than a cursor, in order and without a gap
    push/             poll, long poll and WebSocket from that feed, directly on the socket
    web/notifications.py, web/socket.py   the same for other ASGI servers

Below them: ``storage`` (all SQL, the mailbox clock), ``protocol`` (the wire), ``models`` (the tables).
Above them: ``app`` (composition), ``server`` (sockets, Hypercorn for pages), ``cli`` and ``asgi`` (the entry points).
"""

__version__ = "0.1.0"

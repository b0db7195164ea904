"""A small microblog with private messages whose unread badge is live and always right.

The path of a message, file by file:

    web/messages.py   a form
    messages.py       the verb: one transaction that locks the mailbox, inserts, replaces the notification
    hub.py, bus/      after the commit: who listens here, and who listens elsewhere
    feed.py           what is new since a cursor, in order, without a gap
    web/notifications.py, web/socket.py   poll, long poll and WebSocket, all draining that feed

Below them: ``storage`` (all SQL, the mailbox clock), ``protocol`` (the wire), ``models`` (the nouns).
Above them: ``app`` (composition), ``server`` (Hypercorn), ``cli`` and ``asgi`` (the ways in).
"""

__version__ = "0.1.0"

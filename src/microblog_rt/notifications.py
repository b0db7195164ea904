"""Notifications: the latest state of one name for one user.

See also: ``mailboxes.py``, which stores and signals them.
"""

from typing import Any

from microblog_rt.mailboxes import Change, Mailboxes
from microblog_rt.protocol import Notification


class Notifications:
    """The service that applications call to notify a user."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes

    async def add_notification(self, user_id: int, name: str, data: Any) -> Notification:
        """Replace the user's notification ``name``; ``data`` is any JSON value.

        Returns the notification after the commit. Raises NotFound for an unknown user, BadRequest for a name or data
        that cannot be stored, Unavailable.
        """

        def work(change: Change) -> Notification:
            return change.set(user_id, name, data)

        return await self._mailboxes.change(user_id, work)

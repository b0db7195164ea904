"""Drops outdated notifications: for each name, a value is applied only if it is newer than the last one applied."""

import math
from collections.abc import Sequence

from microblog_rt.client.events import Notification


class NotificationFilter:
    """The latest notification of each name, of those newer than the cursor that the client began with.

    >>> newest = NotificationFilter(5)
    >>> newest.merge([Notification("a", 1, 6), Notification("b", 1, 4)])
    [Notification(name='a', data=1, timestamp=6)]
    >>> newest.merge([Notification("a", 1, 6)])
    []
    """

    def __init__(self, since: float) -> None:
        self._latest: dict[str, Notification] = {}
        self._applied_up_to = since

    def follow(self, notifications: Sequence[Notification], since: float) -> tuple[list[Notification], bool]:
        """What is new in a response of the active connection to ``since``, and whether it replaces everything.

        It does if it is not newer than ``since``: the server's clock was set back, by a restored backup.
        """
        restored = bool(notifications) and notifications[0].timestamp <= since
        if restored:
            self._latest.clear()
            self._applied_up_to = -math.inf
        return self.merge(notifications), restored

    def merge(self, notifications: Sequence[Notification]) -> list[Notification]:
        """What is new in ``notifications``."""
        newer = [each for each in notifications if each.timestamp > self._latest_of(each.name)]
        self._latest.update({each.name: each for each in newer})
        return [each for each in newer if each.timestamp > self._applied_up_to]

    def _latest_of(self, name: str) -> float:
        return self._latest[name].timestamp if name in self._latest else -math.inf

"""Known devices: browsers that have signed in to an account before, which they prove with a mark.

A mark is valid for one browser, account and password: after a password change, only the browser that made it is known.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import NamedTuple

from microblog_rt.models import User
from microblog_rt.secret_key import mac

MARK_LENGTH = 22  # characters, of 6 bits each


class Device(NamedTuple):
    """A browser: its random id, and the marks of accounts that it has signed in to before."""

    id: str = ""
    marks: tuple[str, ...] = ()


UNKNOWN = Device()


class Marks:
    """Creates and checks marks; ``keys`` returns the secret keys: the first signs, all verify."""

    def __init__(self, keys: Callable[[], Sequence[str]]) -> None:
        self._keys = keys

    def mark(self, device_id: str, user: User) -> str:
        """The mark for a device on which ``user`` has signed in."""
        return _mark(self._keys()[0], device_id, user)

    def known(self, device: Device, user: User) -> bool:
        """Whether ``user`` has signed in on the device, with the same password."""
        own = [_mark(key, device.id, user) for key in self._keys()]
        return any(hmac.compare_digest(mark, sent) for mark in own for sent in device.marks)


def _mark(key: str, device_id: str, user: User) -> str:
    digest = mac(key, "device", device_id, str(user.id), user.password_hash)
    return urlsafe_b64encode(digest).decode()[:MARK_LENGTH]

"""Secret keys as they are written in settings: one or several, long enough to be random."""

import re

SECRET_KEY_LENGTH = 16
SECRET_KEY_CHARACTERS = 6  # different ones


def split_keys(text: str) -> list[str]:
    """The keys in ``text``, separated by commas or spaces."""
    return re.split(r"[,\s]+", text.strip(" ,\r\n\t"))


def is_weak(key: str, length: int = SECRET_KEY_LENGTH) -> bool:
    """Whether a key is shorter than ``length``, or consists of a few characters only."""
    return len(key) < length or len(set(key)) < SECRET_KEY_CHARACTERS

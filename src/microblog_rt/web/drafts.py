"""What somebody wrote when their session had ended, kept in their browser until they have signed in again.

For the same person alone: whoever else signs in there next does not get to read it.
"""

from quart import session

DRAFT = "draft"
LONGEST = 1000


def keep(user_id: int, text: str | None) -> None:
    """Remember what ``user_id`` wrote, if anything of a sensible length."""
    if text and len(text) <= LONGEST:
        session[DRAFT] = [user_id, text]


def take(user_id: int) -> str | None:
    """What ``user_id`` had written, once; another's is forgotten."""
    owner, text = session.pop(DRAFT, (None, None))
    return text if owner == user_id else None

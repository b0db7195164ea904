"""What somebody wrote when their session had ended, kept in their browser until they have signed in again.

It lies in Quart's signed cookie, for the same person and the same recipient. (Whoever can read this browser's
cookies can read it; whoever signs in there next is not shown it.)
"""

from quart import session

DRAFT = "draft"
LONGEST = 300  # characters; a cookie must stay small


def keep(user_id: int, recipient: str, text: str | None) -> None:
    """Remember what ``user_id`` wrote to ``recipient``, if anything of a sensible length."""
    if text and len(text) <= LONGEST:
        session[DRAFT] = [user_id, recipient, text]


def take(user_id: int, recipient: str) -> str | None:
    """What ``user_id`` had written to ``recipient``, once."""
    if session.get(DRAFT, [])[:2] != [user_id, recipient]:
        return None
    return str(session.pop(DRAFT)[2])


def carry_over(user_id: int) -> None:
    """Empty the cookie for ``user_id``, who has just signed in, but for their own draft."""
    draft = session.get(DRAFT)
    session.clear()
    if draft and draft[0] == user_id:
        session[DRAFT] = draft

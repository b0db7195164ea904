"""A message sent after its session had ended, kept in the browser until its author signs in again.

Stored in Quart's signed cookie (readable in this browser), for the same user and recipient only.
"""

from quart import session

DRAFT = "draft"
LONGEST = 300  # characters, to keep the cookie small


def keep(user_id: int, recipient: str, text: str | None) -> None:
    """Store the text that ``user_id`` wrote to ``recipient``, unless it is empty or too long."""
    if text and len(text) <= LONGEST:
        session[DRAFT] = [user_id, recipient, text]


def take(user_id: int, recipient: str) -> str | None:
    """Remove and return the text that ``user_id`` wrote to ``recipient``, if any."""
    if session.get(DRAFT, [])[:2] != [user_id, recipient]:
        return None
    return str(session.pop(DRAFT)[2])


def carry_over(user_id: int) -> None:
    """Clear the cookie after ``user_id`` has signed in, except for that user's draft."""
    draft = session.get(DRAFT)
    session.clear()
    if draft and draft[0] == user_id:
        session[DRAFT] = draft

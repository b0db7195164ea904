"""The history of the demo: what its users wrote over the last days, and what the first of them has not read."""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from microblog_rt import imports
from microblog_rt.accounts.passwords import Passwords
from microblog_rt.imports import Import
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.services import Services
from microblog_rt.storage import sql_time
from microblog_rt.storage.imports import NewFollow, NewMessage, NewPost, NewUser

HOUR = 3600 * MICROSECONDS
DAY = 24 * HOUR
MEMBER_FOR = 30 * DAY


class Person(NamedTuple):
    """A user, and who that user follows."""

    display_name: str
    about_me: str
    follows: tuple[str, ...]


PEOPLE = {
    "alice": Person("Alice Moreau", "Bicycles, bread and databases.", ("bob", "carol", "guide")),
    "bob": Person("Bob Okafor", "I repair radios and write about it.", ("alice", "carol", "dave")),
    "carol": Person("Carol Lindqvist", "Field notes from a botanical garden.", ("alice", "bob")),
    "dave": Person("Dave Tanaka", "Night trains, day hikes.", ("carol",)),
    "guide": Person("Guide", "A program of this demo. Write me a private message, and I answer within 3 seconds.", ()),
}

# Author, text and age in hours, oldest first.
POSTS = (
    ("bob", "Found a 1962 valve radio at the flea market. It hums, which is a good start.", 74),
    ("carol", "The magnolia opened two weeks early this year.", 71),
    ("dave", "Night train to Vienna: slept through two borders and one thunderstorm.", 52),
    ("alice", "Sourdough number seven finally has holes in it. Recipe follows when it happens twice.", 50),
    ("carol", "Counted 41 species of moss on one wall today. The wall is 12 metres long.", 29),
    ("bob", "The radio plays. Medium wave only, but it plays.", 26),
    ("alice", "Rode 60 km along the canal. Headwind both ways, as always.", 22),
    ("dave", "Looking for a day hike with a station at both ends. Suggestions are welcome.", 7),
)

# Sender, recipient, text and age in hours, oldest first.
READ = (
    ("bob", "alice", "Are you still looking for a second bicycle pump?", 73),
    ("alice", "bob", "Yes! The old one has given up.", 72.8),
    ("bob", "alice", "I have one to spare. I'll bring it on Thursday.", 72.5),
    ("carol", "alice", "Would you like some rosemary cuttings?", 48),
    ("alice", "carol", "With pleasure, thank you.", 47.5),
    ("dave", "bob", "Does the radio get the coastal weather forecast?", 25),
    ("bob", "dave", "On a clear night, yes.", 24.5),
)
UNREAD = (
    (
        "guide",
        "alice",
        "Hello Alice, I am a program. Answer this message, then go to Home and watch the badge on Messages.",
        3,
    ),
    ("bob", "alice", "The pump is in the hall, next to the blue door.", 2),
    ("bob", "alice", "And the radio is playing, come and listen!", 1.9),
)

# Written last, so that followers have not seen them and those who are mentioned have not read them.
NEWS = (
    ("carol", "@alice The rosemary cuttings have roots now. Come and fetch them before they flower."),
    ("bob", "Open evening on Friday: three radios, one soldering iron, tea."),
    ("guide", "Welcome to the demo. Write me a private message, come back to this page, and watch the badge."),
)


async def write(services: Services, password: str) -> None:
    """Write the history to a database without users; all of them sign in with ``password``."""
    now = sql_time.now()
    password_hash = await Passwords().hash(password)
    await imports.carry_out(_past(now, password_hash), services.storage)
    ids = await services.accounts.ids(PEOPLE)
    for name, person in PEOPLE.items():
        await services.accounts.edit_profile(ids[name], person.display_name, person.about_me)
    for author, body in NEWS:
        await services.posts.post(ids[author], body)
    await services.deliveries.deliver_all()


def _past(now: int, password_hash: str) -> Import:
    """The users and what they wrote before ``now``, in microseconds; only ``UNREAD`` is unread."""
    numbers = dict(zip(PEOPLE, count(1)))
    read = list(_messages(READ, numbers, now))
    read_up_to = max(each.timestamp for each in read)
    return Import(
        users={
            number: NewUser(name, None, password_hash, now - MEMBER_FOR, read_up_to=read_up_to)
            for name, number in numbers.items()
        },
        messages=[*read, *_messages(UNREAD, numbers, now)],
        posts=[NewPost(numbers[author], body, _before(now, hours)) for author, body, hours in POSTS],
        follows=[NewFollow(numbers[name], numbers[each]) for name, person in PEOPLE.items() for each in person.follows],
        notifications=[],
        notes=[],
        losses=[],
        left=[],
    )


def _messages(
    texts: tuple[tuple[str, str, str, float], ...], numbers: dict[str, int], now: int
) -> Iterator[NewMessage]:
    for sender, recipient, body, hours in texts:
        sent = _before(now, hours)
        yield NewMessage(numbers[sender], numbers[recipient], body, sent, sent)


def _before(now: int, hours: float) -> int:
    return now - round(hours * HOUR)

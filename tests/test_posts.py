"""Posts, follows and mentions: each count equals what it counts, and what a delivery costs and survives."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import pytest
from sqlalchemy import func, select, update

from microblog_rt import deliveries, restored
from microblog_rt.errors import Invalid, NotFound, TooMany
from microblog_rt.models import Follow, Mailbox, Mention, Post, User
from microblog_rt.protocol import Notification
from microblog_rt.services import Services
from microblog_rt.settings import Limit
from microblog_rt.spans import mentions
from microblog_rt.storage import Transaction, accounts
from microblog_rt.storage import posts as stored
from tests.clients import Client, signed_in
from tests.conftest import PASSWORD

Counts = dict[str, int]


async def counts(services: Services, user: User) -> Counts:
    """The stored counters of posts and mentions."""
    statement = select(Mailbox.unread_post_count, Mailbox.unread_mention_count).where(Mailbox.user_id == user.id)
    async with services.storage.reading() as reading:
        posts, mentions = (await reading.execute(statement)).one()
    return {"posts": posts, "mentions": mentions}


async def unseen(services: Services, user: User) -> int:
    """The number of posts of followed users after the mark, delivered or not."""
    followed = select(Follow.followed_id).where(Follow.follower_id == user.id)
    mark = select(Mailbox.last_post_seen).where(Mailbox.user_id == user.id).scalar_subquery()
    async with services.storage.reading() as reading:
        found = select(func.count()).select_from(Post).where(Post.user_id.in_(followed), Post.id > mark)
        return (await reading.execute(found)).scalar_one()


async def bodies(services: Services, user: User) -> list[str]:
    return [each.body for each in (await services.posts.home(user.id, 25)).rows]


async def open_home(services: Services, user: User) -> None:
    await see(services, user, (await services.posts.home(user.id, 25)).rows)


async def see(services: Services, user: User, shown: Sequence[Post]) -> Notification | None:
    """Mark a page as the browser does; None if there is nothing to mark."""
    up_to = await services.posts.newest_unseen(user.id, shown)
    return None if up_to is None else await services.posts.see(user.id, up_to)


async def tab_of(services: Services, user: User) -> Client:
    tab = Client(services, await signed_in(services, user))
    await tab.poll()
    return tab


async def test_post_is_counted_for_followers_alone(services: Services, susan: User, john: User) -> None:
    ana = await services.accounts.register("ana", PASSWORD)
    assert await services.posts.follow(susan.id, john)
    assert not await services.posts.follow(susan.id, john)
    for text in ("one", "two"):
        assert await services.posts.post(john.id, text)
    await services.deliveries.deliver_all()
    tab = await tab_of(services, susan)
    assert tab.state == {"unread_post_count": 2}
    assert [(await counts(services, each))["posts"] for each in (susan, john, ana)] == [2, 0, 0]
    assert await bodies(services, susan) == await bodies(services, john) == ["two", "one"]
    assert await bodies(services, ana) == []
    await open_home(services, susan)
    await tab.poll()
    assert tab.state == {"unread_post_count": 0}


async def test_follow_counts_what_home_shows_new_and_unfollow_undoes_it(
    services: Services, susan: User, john: User
) -> None:
    ana = await services.accounts.register("ana", PASSWORD)
    await services.posts.post(john.id, "before susan's visit")
    await services.posts.post(ana.id, "seen")
    await services.posts.follow(susan.id, ana)
    await open_home(services, susan)
    await services.posts.post(john.id, "after it")
    await services.posts.post(ana.id, "new")
    await services.deliveries.deliver_all()
    assert await counts(services, susan) == {"posts": 1, "mentions": 0}
    await services.posts.follow(susan.id, john)
    assert (await counts(services, susan))["posts"] == await unseen(services, susan) == 2
    await services.posts.unfollow(susan.id, john)
    await services.posts.unfollow(susan.id, john)
    assert (await counts(services, susan))["posts"] == await unseen(services, susan) == 1
    assert await bodies(services, susan) == ["new", "seen"]


async def test_post_that_home_showed_before_its_delivery_is_not_counted(
    services: Services, susan: User, john: User
) -> None:
    await services.posts.follow(susan.id, john)
    await services.posts.post(john.id, "shown at once")
    await open_home(services, susan)
    await services.deliveries.deliver_all()
    assert (await counts(services, susan))["posts"] == 0


async def test_home_marks_only_what_it_showed(services: Services, susan: User, john: User) -> None:
    await services.posts.follow(susan.id, john)
    await services.posts.post(john.id, "shown")
    shown = (await services.posts.home(susan.id, 25)).rows
    await services.posts.post(john.id, "not shown")
    await services.deliveries.deliver_all()
    marked = await see(services, susan, shown)
    assert marked is not None
    assert marked.data == (await counts(services, susan))["posts"] == 1
    assert await see(services, susan, shown) is None
    assert (await counts(services, susan))["posts"] == 1


async def test_same_form_posts_once(services: Services, susan: User, john: User) -> None:
    await services.posts.follow(susan.id, john)
    twice = [services.posts.post(john.id, "hello @susan", "nonce") for _ in range(2)]
    assert sorted(await asyncio.gather(*twice)) == [False, True]
    assert await services.posts.post(john.id, "hello", "nonce")
    await services.deliveries.deliver_all()
    assert await counts(services, susan) == {"posts": 2, "mentions": 1}


@pytest.mark.parametrize("text", ["", " \n", "x" * 141])
async def test_text_of_a_wrong_length_is_refused(services: Services, john: User, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        await services.posts.post(john.id, text)
    assert refused.value.field == "post"
    assert await bodies(services, john) == []


async def test_posts_are_limited(services: Services, john: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.posts, "_limit", Limit(2, 60))
    for number in range(2):
        await services.posts.post(john.id, f"post {number}")
    with pytest.raises(TooMany):
        await services.posts.post(john.id, "post 2")


async def test_following_oneself_is_refused(services: Services, john: User) -> None:
    with pytest.raises(Invalid, match="follow_oneself"):
        await services.posts.follow(john.id, john)


# Delivery


async def followers_of(services: Services, author: User, number: int) -> list[User]:
    """New users who follow ``author``."""
    followers = []
    for each in range(number):
        followers.append(user := User(username=f"user{each}", username_key=f"user{each}", password_hash=""))
        await services.storage.write(partial(add_user, user))
        await services.posts.follow(user.id, author)
    return followers


def add_user(user: User, tx: Transaction) -> None:
    accounts.add(tx, user)


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "FOLLOWERS_AT_ONCE", 2)


@pytest.mark.usefixtures("few_at_once")
async def test_interrupted_delivery_is_completed_later(
    services: Services, john: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever a process ends, each count is exact for what has been delivered, and the rest follows."""
    followers = await followers_of(services, john, 5)
    await services.posts.post(john.id, "one")
    real = services.mailboxes.change
    done: list[Iterable[int]] = []

    async def change(users: Iterable[int], work: Callable[..., object]) -> object:
        if len(done) == 2:
            raise OSError("the process has ended")
        done.append(users)
        return await real(list(users), work)

    monkeypatch.setattr(services.mailboxes, "change", change)
    with pytest.raises(OSError, match="ended"):
        await services.deliveries.deliver_all()
    monkeypatch.undo()
    assert [(await counts(services, each))["posts"] for each in followers] == [1, 1, 1, 1, 0]
    await services.posts.post(john.id, "two")
    await services.deliveries.deliver_all()
    assert [(await counts(services, each))["posts"] for each in followers] == [2] * 5
    async with services.storage.reading() as reading:
        assert await stored.undelivered(reading) == {}


@pytest.mark.usefixtures("few_at_once")
async def test_two_deliveries_of_the_same_posts_count_them_once(services: Services, john: User) -> None:
    followers = await followers_of(services, john, 5)
    for text in ("one", "two"):
        await services.posts.post(john.id, text)
    await asyncio.gather(*(services.deliveries.deliver_all() for _ in range(3)))
    assert [(await counts(services, each))["posts"] for each in followers] == [2] * 5


async def test_delivery_ticks_each_follower_once_for_several_posts(services: Services, susan: User, john: User) -> None:
    await services.posts.follow(susan.id, john)
    tab = await tab_of(services, susan)
    for text in ("one", "two", "three"):
        await services.posts.post(john.id, text)
    await tab.connect()
    await services.deliveries.deliver_all()
    await tab.until(lambda: tab.state == {"unread_post_count": 3})
    assert [[each.data for each in page] for page in tab.pages if page] == [[3]]
    await tab.disconnect()


async def test_new_process_delivers_what_an_old_one_left(services: Services, susan: User, john: User) -> None:
    await services.posts.follow(susan.id, john)
    await services.posts.post(john.id, "one")
    await services.storage.write(lambda tx: tx.execute(update(Post).values(created=Post.created - 3600 * 1_000_000)))
    another = deliveries.Deliveries(services.storage, services.mailboxes)
    tab = await tab_of(services, susan)
    await tab.connect()
    running = asyncio.create_task(another.run(0.01))
    await tab.until(lambda: tab.state == {"unread_post_count": 1})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await tab.disconnect()


# Pages


async def test_pages_do_not_shift_while_posts_arrive(services: Services, susan: User, john: User) -> None:
    await services.posts.follow(susan.id, john)
    for number in range(7):
        await services.posts.post((susan, john)[number % 2].id, str(number))
    home = partial(services.posts.home, susan.id, 3)
    for pages in (home, partial(services.posts.explore, 3)):
        first = await pages()
        await services.posts.post(john.id, "new")
        second = await pages(before=first.rows[-1].id)
        third = await pages(before=second.rows[-1].id)
        newest = int(first.rows[0].body) if first.rows[0].body != "new" else 7
        assert [each.body for each in second.rows] == [str(newest - 3 - n) for n in range(3)]
        assert second.previous
        assert second.next
        assert not third.next
        back = await pages(after=second.rows[0].id)
        assert [each.id for each in back.rows] == [each.id for each in first.rows]
        assert back.previous


async def test_profile_counts(services: Services, susan: User, john: User) -> None:
    await services.posts.follow(susan.id, john)
    await services.posts.post(john.id, "one")
    assert await services.posts.profile(john.id, susan.id) == (1, 0, 1, True, False)
    assert await services.posts.profile(susan.id, john.id) == (0, 1, 0, False, True)
    assert [each.body for each in (await services.posts.by_author(john.id, 5)).rows] == ["one"]


# Mentions


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@john", ["john"]),
        ("Hi @John, @susan-lee. (@ana) @a.b_c!", ["John", "susan-lee", "ana", "a.b_c"]),
        ("@señora @王小明", ["señora", "王小明"]),
        ("mail john@example.org or a.@b or x@y@z", []),
        ("https://example.org/@john and http://john@example.org/@susan", []),
        ("@john@example.social @@john /@john -@john", []),
        ("@ @1 @-a @.", []),
        ("@john@", []),
        ("“@john”: hello", ["john"]),
        ("@" + "x" * 5000, ["x" * 257]),
    ],
)
def test_mentions_in_a_text(text: str, found: list[str]) -> None:
    assert [each.value for each in mentions(text)] == found


async def test_mention_is_counted_once_per_post_and_not_for_oneself(
    services: Services, susan: User, john: User
) -> None:
    tab = await tab_of(services, susan)
    assert await services.posts.post(john.id, "@susan @SUSAN, @Susan and @john, not @unknown")
    await tab.poll()
    assert tab.state == {"unread_mention_count": 1}
    assert (await counts(services, john))["mentions"] == 0
    (mention,) = (await services.posts.mentions(susan.id, 5)).rows
    assert (mention.post.author.username, mention.unread) == ("john", True)
    assert (await services.posts.mark_read(susan.id)).data == 0
    (mention,) = (await services.posts.mentions(susan.id, 5)).rows
    assert not mention.unread
    await tab.poll()
    assert tab.state == {"unread_mention_count": 0}


async def test_reply_is_a_mention_for_the_author(services: Services, susan: User, john: User) -> None:
    await services.posts.post(susan.id, "a question")
    ((question,), _, _) = await services.posts.explore(1)
    await services.posts.post(john.id, "an answer to @susan", reply_to_id=question.id)
    await services.posts.post(susan.id, "thanks", reply_to_id=question.id)
    assert (await counts(services, susan))["mentions"] == 1
    post, page = await services.posts.replies(question.id, 5)
    assert (post.body, [each.body for each in page.rows]) == ("a question", ["thanks", "an answer to @susan"])
    with pytest.raises(NotFound):
        await services.posts.post(john.id, "to nothing", reply_to_id=10**6)


async def test_mark_of_a_page_leaves_other_mentions_unread(services: Services, susan: User, john: User) -> None:
    for number in range(4):
        await services.posts.post(john.id, f"@susan {number}")
    page = (await services.posts.mentions(susan.id, 2)).rows
    await services.posts.post(john.id, "@susan later")
    left = await services.posts.mark_read(susan.id, first=page[-1].timestamp, last=page[0].timestamp)
    assert left.data == 3
    unread = [each.post.body for each in (await services.posts.mentions(susan.id, 9)).rows if each.unread]
    assert unread == ["@susan later", "@susan 1", "@susan 0"]


async def test_refused_post_mentions_no_user(services: Services, susan: User, john: User) -> None:
    await services.posts.post(john.id, "@susan", "n")
    assert not await services.posts.post(john.id, "@susan", "n")
    async with services.storage.reading() as reading:
        assert (await reading.execute(select(func.count()).select_from(Mention))).scalar_one() == 1
    assert (await counts(services, susan))["mentions"] == 1


async def test_restored_recounts_posts_and_mentions(services: Services, susan: User, john: User) -> None:
    await services.posts.follow(susan.id, john)
    await services.posts.post(john.id, "@susan")
    await services.deliveries.deliver_all()
    await services.storage.write(
        lambda tx: tx.execute(update(Mailbox).values(unread_post_count=7, unread_mention_count=9))
    )
    await restored.restored(services.storage, services.mailboxes, 0)
    assert await counts(services, susan) == {"posts": 1, "mentions": 1}
    assert (await tab_of(services, susan)).state == {
        "unread_message_count": 0,
        "unread_post_count": 1,
        "unread_mention_count": 1,
    }

"""The pages of posts, profiles and mentions: forms, marks, and texts that are kept."""

import re
from html import unescape
from typing import Any

import pytest
from quart import Quart

from microblog_rt.services import Services
from tests.conftest import PASSWORD
from tests.web.conftest import HEADERS, Browser, Join, field, link, text

JSON = {"Accept": "application/json"}


def bodies(page: str) -> list[str]:
    """The texts of the posts on the page."""
    return [
        unescape(re.sub("<[^>]*>", "", each))
        for each in re.findall(r'<div class="body[^>]*>\s*<p class="text">(.*?)</p>', page)
    ]


def count(page: str, name: str) -> int:
    """The number of the badge ``name`` in the navigation bar."""
    found = re.search(rf'id="{name}_count"[^>]*data-count="(\d+)"', page)
    assert found, page
    return int(found[1])


def hidden_forms(page: str) -> set[str]:
    """The ids of the forms that are not shown."""
    return set(re.findall(r'<form id="(\w+)"[^>]* hidden>', page))


def typed(page: str, name: str) -> str:
    """The text in a field of several lines."""
    found = re.search(rf'<textarea[^>]*name="{name}"[^>]*>\s*(.*?)</textarea>', page, re.DOTALL)
    assert found, page
    return unescape(found[1])


@pytest.fixture
async def susan(join: Join) -> Browser:
    return await join("susan")


@pytest.fixture
async def john(join: Join, susan: Browser) -> Browser:
    return await join("john")


async def test_post_is_shown_on_home_explore_and_profile(susan: Browser, john: Browser) -> None:
    assert (await john.post("/", post="hello <b>")).location.startswith("/#sent=")
    for path in ("/explore", "/user/john"):
        assert bodies(await text(await susan.get(path))) == ["hello <b>"]
    assert bodies(await text(await susan.get("/"))) == []
    assert (await susan.post("/follow/john")).location == "/user/john"
    assert bodies(await text(await susan.get("/index"))) == bodies(await text(await john.get("/"))) == ["hello <b>"]
    assert (await susan.post("/unfollow/john")).status_code == 303
    assert bodies(await text(await susan.get("/"))) == []


async def test_submitting_a_form_twice_posts_once(john: Browser) -> None:
    nonce = field(await text(await john.get("/")), "nonce")
    first, second = [await john.post("/", post="hello", nonce=nonce) for _ in range(2)]
    assert first.location == second.location == f"/#sent={nonce}"
    page = await text(await john.get("/"))
    assert "This post was already published." in page
    assert bodies(page) == ["hello"]


@pytest.mark.parametrize("path", ["/", "/post/1"])
async def test_refused_text_is_kept(john: Browser, services: Services, path: str) -> None:
    await services.posts.post(1, "a question")
    answer = await john.post(path, post="x" * 141)
    page = await text(answer)
    assert answer.status_code == 422
    assert typed(page, "post") == "x" * 141
    assert "The post has 141 characters. The limit is 140." in page
    assert "x" * 141 not in bodies(page)


@pytest.mark.parametrize("path", ["/", "/post/1"])
async def test_text_is_kept_when_the_session_has_ended(john: Browser, services: Services, path: str) -> None:
    await services.posts.post(1, "a question")
    page = await text(await john.get(path))
    form: dict[str, Any] = {"post": "hello", "nonce": field(page, "nonce"), "csrf_token": field(page, "csrf_token")}
    await john.post("/auth/logout")
    refused = await john.post(path, **form)
    page = await text(refused)
    assert refused.status_code == 401
    assert (typed(page, "post"), field(page, "nonce")) == ("hello", form["nonce"])
    assert bodies(await text(await john.get("/explore"))) == []
    program = await john.post(path, **form, headers=JSON)
    assert (program.status_code, program.content_type) == (401, "application/problem+json")
    assert len((await services.posts.explore(9)).rows) == 1


@pytest.mark.parametrize("path", ["/", "/edit_profile"])
async def test_text_is_not_stored_under_another_account(
    app: Quart, susan: Browser, john: Browser, services: Services, path: str
) -> None:
    """The page shows the text; its form stays that of the user who typed it."""
    page = await text(await john.get(path))
    form: dict[str, Any] = {"post": "by john", "about_me": "by john", "csrf_token": field(page, "csrf_token")}
    await john.post("/auth/logout")
    await john.post("/auth/login", username="susan", password=PASSWORD)
    for _ in range(2):
        refused = await john.post(path, **form)
        page = await text(refused)
        assert refused.status_code in (401, 403)
        assert typed(page, "about_me" if "edit" in path else "post") == "by john"
        form["csrf_token"] = field(page[page.index("<main") :], "csrf_token")
    assert (await services.posts.explore(9)).rows == []
    assert (await services.accounts.known("susan")).about_me is None


async def test_home_marks_by_a_form_what_it_shows(susan: Browser, john: Browser, services: Services) -> None:
    await susan.post("/follow/john")
    await services.posts.post(2, "shown")
    await services.deliveries.deliver_all()
    page = await text(await susan.get("/"))
    await services.posts.post(2, "later")
    await services.deliveries.deliver_all()
    assert count(page, "post") == 1
    assert count(await text(await susan.get("/explore")), "post") == 2, "no page marks by itself"
    answer = await susan.post("/posts/seen", up_to=field(page, "up_to"), headers=JSON)
    (notification,) = await answer.get_json()
    assert (notification["name"], notification["data"]) == ("unread_post_count", 1)
    page = await text(await susan.get("/"))
    assert count(page, "post") == 1
    assert (await susan.post("/posts/seen", up_to=field(page, "up_to"))).location == "/"
    page = await text(await susan.get("/"))
    assert count(page, "post") == 0
    assert "see_posts" not in page


@pytest.mark.parametrize("up_to", [None, "", "x", "-1", "1.5", "9" * 19])
async def test_invalid_mark_of_posts_is_refused(susan: Browser, up_to: str | None) -> None:
    answer = await susan.post("/posts/seen", up_to=up_to, headers=JSON)
    assert (answer.status_code, (await answer.get_json())["code"]) == (400, "bad_request")


async def test_pages_of_home_do_not_shift(susan: Browser, services: Services) -> None:
    for number in range(30):
        await services.posts.post(1, f"post {number}")
    first = await text(await susan.get("/"))
    await services.posts.post(1, "new")
    second = await text(await susan.get(link(first, "next")))
    assert bodies(first) + bodies(second) == [f"post {29 - number}" for number in range(30)]
    assert bodies(await text(await susan.get(link(second, "prev")))) == bodies(first)


async def test_mention_links_and_is_marked(susan: Browser, john: Browser) -> None:
    await john.post("/", post="hello @Susan, not @unknown https://example.org/@susan")
    page = await text(await susan.get("/mentions"))
    assert '<a href="/user/susan" class="mention"><bdi>@Susan</bdi></a>, not @unknown' in page
    assert page.count('class="mention"') == 1
    assert count(page, "mention") == page.count(">unread</span>") == 1
    assert hidden_forms(page) == {"mark_read"}
    interval: dict[str, Any] = {"from": field(page, "from"), "up_to": field(page, "up_to")}
    (notification,) = await (await susan.post("/mentions/read", **interval, headers=JSON)).get_json()
    assert (notification["name"], notification["data"]) == ("unread_mention_count", 0)
    page = await text(await susan.get("/mentions"))
    assert count(page, "mention") == page.count(">unread</span>") == 0
    assert hidden_forms(page) == {"mark_read", "mark_all"}


async def test_reply_is_shown_below_its_post(susan: Browser, john: Browser) -> None:
    await susan.post("/", post="a question")
    assert (await john.post("/post/1", post="an answer")).location.startswith("/post/1#sent=")
    assert bodies(await text(await susan.get("/post/1"))) == ["a question", "an answer"]
    assert "Reply to a post by susan" in await text(await susan.get("/mentions"))
    for method in (susan.get, susan.post):
        assert (await method("/post/99")).status_code == 404


async def test_profile_shows_what_its_user_says(susan: Browser, john: Browser) -> None:
    await susan.post("/follow/john")
    said: dict[str, Any] = {"display_name": " Juan  <i> ", "about_me": "https://example.org\nI like cats"}
    assert (await john.post("/edit_profile", **said)).location == "/user/john"
    page = await text(await susan.get("/user/john"))
    assert '<h1 class="name mb-0">Juan &lt;i&gt;</h1>' in page
    assert '<a href="https://example.org" rel="nofollow noopener"' in page
    assert "1 follower<" in page
    assert "Follows you" in await text(await john.get("/user/susan"))
    refused = await john.post("/edit_profile", display_name="x" * 51, about_me="x" * 141)
    assert refused.status_code == 422
    assert typed(await text(refused), "about_me") == "x" * 141
    assert field(await text(refused), "display_name") == "x" * 51
    assert (await john.post("/edit_profile", display_name="", about_me="")).status_code == 303
    assert "Juan" not in await text(await susan.get("/user/john"))


async def test_list_of_people_offers_to_follow(susan: Browser, john: Browser) -> None:
    page = await text(await susan.get("/people"))
    assert re.findall(r'action="/follow/(\w+)"', page) == ["john"]
    await susan.post("/follow/john")
    page = await text(await susan.get("/people"))
    assert "/follow/" not in page
    assert page.count(">Following</span>") == 1
    assert ">Following</span>" not in await text(await john.get("/people"))


async def test_following_oneself_is_refused(susan: Browser) -> None:
    answer = await susan.post("/follow/susan")
    assert answer.status_code == 422
    assert "You cannot follow yourself." in await text(answer)


@pytest.mark.parametrize("path", ["/explore", "/mentions", "/people", "/post/1", "/edit_profile", "/user/susan"])
async def test_pages_need_a_session(stranger: Browser, path: str) -> None:
    answer = await stranger.get(path, headers=HEADERS)
    assert answer.location == f"/auth/login?next={path}"

"""Posts between two people with browsers: counts arrive live, and pages mark only what they have shown."""

import asyncio
import gzip
import re

from playwright.async_api import Response, Route, expect

from tests.browser.browser_users import BrowserUser, Sender, Tab, submit
from tests.server_process import Server

POSTS = "ol.rows article"
PATHS = ["/", "/explore", "/people", "/mentions", "/post/1", "/user/alice", "/edit_profile"]
LIMIT = 120 * 1024  # bytes

# Layout shifts, without those within half a second after input.
SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) shifts.push(entry.value);
}).observe({ type: "layout-shift", buffered: true });
"""


async def post(user: BrowserUser, text: str, path: str = "/") -> None:
    """Publish with the form at ``path``, in the user's first tab."""
    page = user.tabs[0].page
    await page.goto(path)
    await page.fill("[name=post]", text)
    await submit(page)
    await expect(page.get_by_text("Your post has been published.")).to_be_focused()


async def follow(user: BrowserUser, name: str) -> None:
    page = user.tabs[0].page
    await page.goto(f"/user/{name}")
    await submit(page, "form[action*='/follow/'] button")
    await expect(page.get_by_role("button", name="Unfollow")).to_be_visible()


async def test_new_posts_arrive_live_and_are_seen_where_they_are_shown(alice: BrowserUser, bob: BrowserUser) -> None:
    await follow(bob, "alice")
    await bob.context.add_init_script(SHIFTS)
    home, other, older = await bob.tab("/"), await bob.tab("/messages"), await bob.tab("/?before=1")
    link, link_of_older = home.page.locator("#new_posts"), older.page.locator("#new_posts")
    await expect(link_of_older).to_have_text("Newest posts")
    for number, sentence in ((1, "1 new post"), (2, "2 new posts")):
        await post(alice, f"post {number}")
        await expect(link).to_have_text(sentence)
        await expect(link_of_older).to_have_text(sentence)
        for tab in (home, other):
            await expect(tab.page.locator("#post_count")).to_have_text(str(number))
            await expect(tab.page.locator("#post_count_text")).to_have_text(sentence)
    await expect(home.page.locator(POSTS)).to_have_count(0)
    assert await home.page.evaluate("shifts") == []

    await link.click()
    await expect(home.page.locator(POSTS)).to_have_text([re.compile("post 2"), re.compile("post 1")])
    for tab in (home, other):
        await expect(tab.page.locator("#post_count")).to_be_hidden()
    await expect(link).to_be_hidden()
    await expect(link_of_older).to_have_text("Newest posts")
    await expect(home.page.get_by_role("link", name="Home", exact=True)).to_have_attribute("aria-current", "page")


async def test_hidden_home_page_marks_nothing_until_it_is_shown(alice: BrowserUser, bob: BrowserUser) -> None:
    await follow(bob, "alice")
    await post(alice, "hello")
    watching = await bob.tab("/messages")
    await expect(watching.page.locator("#post_count")).to_have_text("1")
    marks: list[str] = []
    bob.context.on("request", lambda request: marks.append(request.url) if "/posts/seen" in request.url else None)
    hidden = Tab(await bob.context.new_page())
    await hidden.page.add_init_script(
        "window.state = 'hidden'; Object.defineProperty(document, 'visibilityState', { get: () => window.state })"
    )
    await hidden.open("/")
    await hidden.page.wait_for_load_state("networkidle")
    assert marks == []
    await hidden.page.evaluate("window.state = 'visible'; document.dispatchEvent(new Event('visibilitychange'))")
    await expect(watching.page.locator("#post_count")).to_be_hidden()
    assert len(marks) == 1


async def test_mention_and_reply_arrive_live_and_are_marked_when_shown(alice: BrowserUser, bob: BrowserUser) -> None:
    elsewhere = await bob.tab("/explore")
    badge = elsewhere.page.locator("#mention_count")
    await post(alice, "hello @bob")
    await expect(badge).to_have_text("1")
    await expect(elsewhere.page.locator("#mention_announcer")).to_have_text("1 unread mention")
    mentions = await bob.tab("/mentions")
    await expect(badge).to_be_hidden()
    await expect(mentions.page.locator(POSTS)).to_have_text([re.compile("hello @bob")])

    await mentions.page.get_by_role("link", name="Reply to alice: hello @bob").click()
    await mentions.page.fill("[name=post]", "hello @alice")
    await submit(mentions.page)
    await expect(mentions.page.locator(POSTS)).to_have_text([re.compile("hello @alice")])
    alices = await alice.tab("/mentions")
    await expect(alices.page.locator(POSTS)).to_have_text([re.compile("Reply to a post by alice.*hello @alice", re.S)])
    await post(bob, "again @alice")  # inserted into the open page, and marked there
    await expect(alices.page.locator(POSTS)).to_have_count(2)
    await expect(alices.page.locator("#mention_count")).to_be_hidden()


async def test_unsent_post_is_kept(bob: BrowserUser, server: Server) -> None:
    tab = bob.tabs[0]
    await tab.open("/")
    await tab.page.fill("[name=post]", "half a tho")
    await tab.open("/explore")
    await tab.open("/")
    await expect(tab.page.locator("[name=post]")).to_have_value("half a tho")
    other = await bob.tab("/explore")
    await submit(other.page, "form[action='/auth/logout'] button")
    await tab.wait_for_sign_out()
    await other.sign_in("bob", server.password)  # the first tab loads its page again
    await expect(tab.signed_out).to_be_hidden()
    await expect(tab.page.locator("[name=post]")).to_have_value("half a tho")
    await submit(tab.page)
    await expect(tab.page.locator(POSTS)).to_have_text([re.compile("half a tho")])
    await expect(tab.page.locator("[name=post]")).to_have_value("")


async def test_session_ends_before_the_script_of_the_form_runs(bob: BrowserUser) -> None:
    """The ``bob`` fixture fails on a script error."""
    other, late = await bob.tab("/explore"), Tab(await bob.context.new_page())
    ended = asyncio.Event()

    async def after_the_end(route: Route) -> None:
        await ended.wait()
        await route.continue_()

    await late.page.route("**/rt/send_form.js", after_the_end)
    await late.page.goto("/", wait_until="commit")
    await expect(late.page.locator("#send")).to_be_visible()
    await submit(other.page, "form[action='/auth/logout'] button")
    await late.wait_for_sign_out()
    await expect(late.page.locator("#send")).to_have_count(0)
    ended.set()
    await late.page.wait_for_load_state("load")


async def test_first_view_of_each_page_is_small(bob: BrowserUser, sender: Sender) -> None:
    """With a full page of long posts, compressed as nginx does (deploy/nginx.conf)."""
    for number in range(26):
        await sender.post(f"{number} @bob https://example.org/ ".ljust(140, "x"))
    await follow(bob, "alice")
    sizes = {path: await _compressed(bob, path) for path in PATHS}
    assert all(50_000 < size < LIMIT for size in sizes.values()), sizes


async def _compressed(user: BrowserUser, path: str) -> int:
    """The bytes of the page and of all its files."""
    page = await user.context.new_page()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    await page.goto(path)
    await page.wait_for_load_state("networkidle")
    bodies = [await each.body() for each in responses if "/notifications" not in each.url and each.ok]
    await page.close()
    return sum(len(gzip.compress(each, 1)) for each in bodies)


async def test_control_and_enter_post(alice: BrowserUser) -> None:
    page = alice.tabs[0].page
    await page.goto("/")
    await page.fill("[name=post]", "by the keyboard")
    await page.press("[name=post]", "Control+Enter")
    await expect(page.locator(POSTS)).to_have_text(re.compile("by the keyboard"))

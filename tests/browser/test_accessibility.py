"""All pages: axe, sizes of targets, focus, forced colours, and a header that stays in view."""

from typing import Any, Literal

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Page, Route, ViewportSize, expect

from tests.browser.browser_users import BrowserUser, Sender, Tab, submit
from tests.browser.conftest import OpenBrowser
from tests.server_process import Server

ANONYMOUS = ["/", "/auth/login", "/auth/register", "/auth/reset_password_request", "/nothing"]
SIGNED_IN = ["/", "/user/alice", "/user/bob", "/messages", "/messages/alice", "/messages?list=received"]
SIGNED_IN += ["/send_message/alice", "/send_message/bob"]
SIGNED_IN += ["/explore", "/people", "/mentions", "/post/1", "/edit_profile"]
SIGNED_IN += [
    "/docs",
    "/account",
    "/account/delete",
    "/auth/sessions",
    "/auth/tokens",
    "/auth/change_password",
    "/auth/logout_everywhere",
    "/user/unknown",
]

PHONE: ViewportSize = {"width": 390, "height": 640}
SMALL: ViewportSize = {"width": 320, "height": 640}
SCREEN: ViewportSize = {"width": 1280, "height": 640}

Colours = tuple[Literal["light", "dark"], Literal["none", "active"]]  # the scheme; forced colours

# By width: all of axe's rules once, and those about colours in the other colours.
COLOUR_RULES = "runOnly: ['color-contrast', 'link-in-text-block']"
Runs = dict[int, dict[Colours, str]]


def axe_runs(forced: Literal["light", "dark"]) -> Runs:
    """The runs; ``forced`` is the system's scheme with forced colours.

    It must be the page's: axe takes the colour of a text, but not of its background, from before they were forced.
    """
    colours: dict[Colours, str] = {
        ("light", "none"): "",
        ("dark", "none"): COLOUR_RULES,
        (forced, "active"): COLOUR_RULES,
    }
    return dict.fromkeys((PHONE["width"], SCREEN["width"]), colours)


AXE_RUNS = axe_runs("light")

# Links and controls smaller than 24 by 24 px. Links within a sentence and what only assistive technology sees may be.
SMALL_TARGETS = """
() => [...document.querySelectorAll("a, button, input, textarea, select, summary, label:has(input)")]
  .filter((element) => !element.closest(".text, .alert, .visually-hidden-focusable") && element.getClientRects().length)
  .map((element) => [element.outerHTML.slice(0, 90), element.getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 24 || height < 24)
  .map(([html, { width, height }]) => `${width} x ${height}: ${html}`)
"""

# The parts of the focused element that another element, such as the header, covers.
COVERED = """
() => {
  const element = document.activeElement;
  const { left, right, top, bottom } = element.getBoundingClientRect();
  const points = [[left + 2, top + 2], [right - 2, bottom - 2]];
  return points.filter(([x, y]) => {
    const hit = document.elementFromPoint(x, y);
    return !hit || !(element.contains(hit) || hit.contains(element));
  });
}
"""


async def test_axe_finds_no_violations_and_no_target_is_small(open_browser: OpenBrowser, sender: Sender) -> None:
    for text in ("hello bob", "https://example.org\n" + "line\n" * 11 + "end"):
        await sender.send("bob", text)
    # Without the transitions of colours, in which the contrast is too low for a moment.
    visitor, bob = [await open_browser(name, reduced_motion="reduce") for name in (None, "bob")]
    await _keep_unread(bob)
    found: list[str] = []
    for user, paths, form in ((visitor, ANONYMOUS, "/auth/login"), (bob, SIGNED_IN, "/send_message/alice")):
        tab = await user.tab("/")
        for path in paths:
            await tab.open(path)
            found += await _violations(tab.page)
        found += await _violations(await _rejected(tab, form))
    await bob.context.unroute_all()
    await tab.open("/messages?list=received")
    await tab.wait_for_badge(0)
    await tab.open("/messages?list=received")
    found += await _violations(tab.page)
    await tab.open("/messages/alice")
    await tab.page.fill("#message", "sent")
    await tab.page.press("#message", "Enter")
    await expect(tab.page.locator("#conversation .own[data-key]")).to_have_count(1)
    await tab.page.route("**/api/v1/messages", lambda route: route.abort())
    await tab.page.fill("#message", "not sent")
    await tab.page.press("#message", "Enter")
    await expect(tab.page.get_by_role("button", name="Try again")).to_be_visible()
    found += await _violations(tab.page)
    assert found == [], "\n".join(found)


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_axe_finds_no_violations_in_a_chosen_theme(
    open_browser: OpenBrowser, sender: Sender, theme: Literal["light", "dark"]
) -> None:
    """In each scheme of the system, in Chinese; and with the list of keyboard shortcuts."""
    await sender.send("bob", "hello bob")
    bob = await open_browser("bob", reduced_motion="reduce", locale="zh-TW")
    await _keep_unread(bob)
    (tab,) = bob.tabs
    await tab.page.locator(f"button[value={theme}]").click()
    found: list[str] = []
    for path in ("/messages", "/auth/tokens"):
        await tab.open(path)
        await expect(tab.page.locator(f"button[value={theme}]")).to_have_attribute("aria-pressed", "true")
        found += await _violations(tab.page, axe_runs(theme))
    await tab.page.keyboard.press("?")
    await expect(tab.page.get_by_role("dialog")).to_be_visible()
    found += await _violations(tab.page, axe_runs(theme))
    assert found == [], "\n".join(found)


async def test_forced_colours_show_what_is_chosen(open_browser: OpenBrowser) -> None:
    visitor = await open_browser(forced_colors="active")
    page = (await visitor.tab("/")).page
    chosen, other = (page.get_by_role("button", name=name) for name in ("English", "Español"))
    for name in ("borderTopColor", "textDecorationLine"):
        assert await _style(chosen, name) != await _style(other, name)
    colours = [await _style(page.locator("body"), name) for name in ("color", "backgroundColor")]
    await page.get_by_role("button", name="Dark").click()
    await expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    assert [await _style(page.locator("body"), name) for name in ("color", "backgroundColor")] == colours


async def test_each_reply_link_names_its_message(sender: Sender, bob: BrowserUser) -> None:
    texts = ["hello bob", "are you there?", "a long message, " * 5]
    for text in texts:
        await sender.send("bob", text)
    tab = await bob.tab("/messages?list=received")
    names = ["Reply to alice: hello bob", "Reply to alice: are you there?", "Reply to alice: a long message, a long"]
    for name in names:
        link = tab.page.get_by_role("link", name=name)
        await expect(link).to_have_count(1)
        time = tab.page.locator("article", has=link).locator("time")
        assert await link.get_attribute("aria-describedby") == await time.get_attribute("id")


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_focus_after_sending_is_on_the_confirmation(open_browser: OpenBrowser, scripts: bool) -> None:
    bob = await open_browser("bob", java_script_enabled=scripts)
    await bob.send("alice", "hello alice")
    await expect(bob.tabs[0].page.get_by_text("Your message has been sent.")).to_be_focused()


async def test_focus_after_mark_as_read_is_on_the_confirmation(sender: Sender, bob: BrowserUser) -> None:
    await sender.send("bob", "hello bob")
    await _keep_unread(bob)
    tab = await bob.tab("/messages?list=received")
    await bob.context.unroute_all()
    await submit(tab.page, "#mark_all button")
    await expect(tab.page.get_by_text("Marked as read.", exact=True)).to_be_focused()


async def test_focus_moves_to_the_heading_when_its_button_disappears(sender: Sender, bob: BrowserUser) -> None:
    await sender.send("bob", "hello bob")
    (tab,) = bob.tabs
    held: list[Route] = []
    await tab.page.route("**/messages/read", lambda route: held.append(route))
    async with tab.page.expect_request("**/messages/read"):
        await tab.open("/messages?list=received")
    button = tab.page.locator("#mark_all button")
    await button.focus()
    await held[0].continue_()
    await expect(button).to_be_hidden()
    await expect(tab.page.get_by_role("heading", name="Messages")).to_be_focused()


@pytest.mark.parametrize("change", ["link.remove()", "link.parentElement.remove()", "link.parentElement.hidden = true"])
async def test_focus_moves_to_the_heading_when_a_link_disappears(bob: BrowserUser, change: str) -> None:
    tab = await bob.tab("/people")
    await tab.page.locator(".person a").first.focus()
    await tab.page.evaluate(f"() => {{ const link = document.activeElement; {change}; }}")
    await expect(tab.page.get_by_role("heading", name="People")).to_be_focused()


async def test_unfocused_page_keeps_its_focus_when_something_disappears(bob: BrowserUser) -> None:
    tab = await bob.tab("/people")
    await tab.page.locator(".person a").first.focus()
    await tab.page.mouse.click(5, 600)
    await tab.page.evaluate("document.querySelector('.person a').remove()")
    await expect(tab.page.locator("body")).to_be_focused()


async def test_header_stays_in_view_and_covers_no_focus(open_browser: OpenBrowser, sender: Sender) -> None:
    for number in range(12):
        await sender.send("bob", f"message {number}\nof two lines")
    bob = await open_browser("bob", reduced_motion="reduce")  # smooth scrolling takes time
    tab = await bob.tab("/messages?list=received")
    await tab.wait_for_badge(0)
    for size in (SMALL, PHONE, SCREEN):
        await tab.page.set_viewport_size(size)
        await tab.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        await expect(tab.page.get_by_role("link", name="Messages", exact=True)).to_be_in_viewport(ratio=1)
        await tab.page.get_by_role("link", name="Reply").last.focus()
        for _ in range(20):
            html = await tab.page.evaluate("document.activeElement.outerHTML")
            assert await tab.page.evaluate(COVERED) == [], html
            await tab.page.keyboard.press("Shift+Tab")


async def test_forced_colours_show_unread_badge_and_focus(
    open_browser: OpenBrowser, server: Server, sender: Sender
) -> None:
    bob = await open_browser("bob", forced_colors="active")
    await sender.send("bob", "read")
    tab = await bob.tab("/messages?list=received")
    await tab.wait_for_badge(0)
    await _keep_unread(bob)
    await sender.send("bob", "unread")
    await tab.open("/messages?list=received")
    unread, read = tab.page.locator("article.unread"), tab.page.locator("article:not(.unread)")
    background = await _style(tab.page.locator("body"), "backgroundColor")
    assert await _style(unread, "borderLeftColor") != background
    assert await _style(read, "borderLeftColor") == background
    assert await _style(tab.badge, "borderTopStyle") == "solid"
    assert await _style(tab.badge, "color") != background
    for link in ("Messages", "Sign out", "Reply"):
        target = tab.page.locator("a, button", has_text=link).first
        await target.focus()
        await tab.page.keyboard.press("Shift")
        assert await _style(target, "outlineStyle") == "solid"
        assert await _style(target, "outlineColor") != background


async def _keep_unread(user: BrowserUser) -> None:
    """Refuse the request with which the page marks its messages as read."""
    await user.context.route("**/messages/read", lambda route: route.abort())


async def _rejected(tab: Tab, path: str) -> Page:
    """The page with the error of a form that was sent empty."""
    await tab.open(path)
    page = tab.page
    await page.eval_on_selector_all("[required]", "fields => fields.forEach((field) => (field.required = false))")
    async with page.expect_navigation():
        await page.click("#submit")
    await expect(page.locator(".invalid-feedback").first).to_be_visible()
    return page


async def _violations(page: Page, runs: Runs = AXE_RUNS) -> list[str]:
    """What axe finds on a phone and a screen, also in dark and in forced colours; and targets that are too small."""
    await page.wait_for_load_state()
    await page.evaluate(AXE_SCRIPT)
    found: list[str] = []
    for size in (SMALL, PHONE, SCREEN):
        await page.set_viewport_size(size)
        found += [f"{page.url}, {size}: {each}" for each in await page.evaluate(SMALL_TARGETS)]
        for (scheme, forced), rules in runs.get(size["width"], {}).items():
            await page.emulate_media(color_scheme=scheme, forced_colors=forced)
            results: dict[str, Any] = await page.evaluate(f"axe.run({{ resultTypes: ['violations'], {rules} }})")
            assert results["passes"]
            where = f"{page.url} {size['width']} px, {scheme}, forced colours {forced}"
            found += [f"{where}: {_describe(each)}" for each in results["violations"]]
    return found


def _describe(violation: dict[str, Any]) -> str:
    return f"{violation['id']}: {[node['html'] for node in violation['nodes']]}"


async def _style(locator: Any, name: str) -> str:
    value: str = await locator.first.evaluate(f"element => getComputedStyle(element).{name}")
    return value

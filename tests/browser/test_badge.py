"""The badge without failures."""

import asyncio
from urllib.parse import unquote

from playwright.async_api import Page, expect

from tests.browser.browser_users import BrowserUser, Sender
from tests.browser.conftest import OpenBrowser
from tests.browser.durations import Durations
from tests.browser.proxy import Proxy

SECOND = 1.0
WIDTHS = (320, 390, 1280)  # px

# Runs before the page's scripts. Records the texts of the live region, the app badge, and the layout shifts.
RECORDER = """
window.announced = [];
window.app_badge = [];
window.shifts = [];
navigator.setAppBadge = async (n) => { app_badge.push(n); };
navigator.clearAppBadge = async () => { app_badge.push(0); };
new PerformanceObserver((list) => shifts.push(...list.getEntries().map(({ value }) => value)))
  .observe({ type: "layout-shift", buffered: true });
addEventListener("DOMContentLoaded", () => {
  const announcer = document.querySelector("#announcer");
  const record = () => announcer.textContent && announced.push(announcer.textContent);
  if (announcer) new MutationObserver(record).observe(announcer, { childList: true });
});
"""

# Whether a favicon is an image that the browser can decode.
DECODES = "async (url) => { const image = new Image(); image.src = url; await image.decode(); return image.width > 0; }"

# The positions of everything in the header but the badge, after the next frame has been rendered.
HEADER = """
async () => {
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return [...document.querySelectorAll("header, header :is(a, button), main")].map((element) => {
    const { x, y, width, height } = element.getBoundingClientRect();
    return [x, y, width, height];
  });
}
"""


async def test_badge_counts_each_message_within_a_second(
    alice: BrowserUser, bob: BrowserUser, proxy: Proxy, durations: Durations
) -> None:
    (tab,) = bob.tabs
    await tab.wait_for_badge(0)
    for count in (1, 2):
        sent = await alice.send("bob", f"message {count}")
        durations.check(f"WebSocket: the badge shows {count}", sent, await tab.wait_for_badge(count), SECOND)
    assert await tab.history() == ["", "1", "2"]
    assert proxy.passed["websocket"]
    assert not proxy.passed["long poll"]


async def test_opening_messages_clears_badge_in_all_tabs(
    sender: Sender, bob: BrowserUser, durations: Durations
) -> None:
    reading, other = bob.tabs[0], await bob.tab("/")
    for count in (1, 2):
        await sender.send("bob", f"message {count}")
        for tab in bob.tabs:
            await tab.wait_for_badge(count)
    opened = await reading.open("/messages?list=received")
    durations.check("WebSocket: the tab with the messages is cleared", opened, await reading.wait_for_badge(0), SECOND)
    durations.check("WebSocket: the other tab is cleared", opened, await other.wait_for_badge(0), SECOND)
    assert await reading.history() == ["2", ""]
    assert await other.history() == ["", "1", "2", ""]


async def test_title_favicon_and_app_badge_show_the_count(sender: Sender, bob: BrowserUser) -> None:
    await bob.context.add_init_script(RECORDER)
    tab = await bob.tab("/")
    page = tab.page
    assert await page.title() == "Home - Microblog"
    empty = await _favicon(page)
    for count in (1, 2):
        await sender.send("bob", f"message {count}")
        await expect(page).to_have_title(f"({count}) Home - Microblog")
        assert f">{count}</text>" in unquote(await _favicon(page))
        assert await page.evaluate(DECODES, await _favicon(page))
        await expect(page.locator("header").get_by_role("link", name="Messages")).to_have_accessible_name(
            f"Messages {count} unread message{'s' if count > 1 else ''}"
        )
    assert await page.evaluate("app_badge") == [0, 1, 2]

    reading = await bob.tab("/messages?list=received")
    await expect(page).to_have_title("Home - Microblog")
    await expect(reading.page).to_have_title("Received messages - Microblog")
    assert await _favicon(page) == empty
    assert await page.evaluate("app_badge.at(-1)") == 0


async def test_page_without_javascript_has_the_count_in_its_title(open_browser: OpenBrowser, sender: Sender) -> None:
    bob = await open_browser("bob", java_script_enabled=False)
    await sender.send("bob", "hello bob")
    tab = await bob.tab("/")
    await expect(tab.page).to_have_title("(1) Home - Microblog")
    await expect(tab.page.get_by_role("link", name="Messages")).to_have_accessible_name("Messages 1 unread message")


async def test_new_counts_are_announced_every_five_seconds_at_most(sender: Sender, bob: BrowserUser) -> None:
    await sender.send("bob", "before")
    await bob.context.add_init_script(RECORDER)
    (tab,) = bob.tabs
    await tab.page.clock.install()
    await tab.open("/")
    await tab.wait_for_frame()
    await tab.page.clock.pause_at(await tab.page.evaluate("Date.now() / 1000 + 1"))
    await expect(tab.page.get_by_role("status").filter(has_text="unread")).to_have_count(0)
    for count in (2, 3, 4):
        await sender.send("bob", f"message {count}")
        await tab.wait_for_badge(count)
    assert await tab.page.evaluate("announced") == ["2 unread messages"]
    await tab.page.clock.run_for(4_900)
    assert await tab.page.evaluate("announced") == ["2 unread messages"]
    await tab.page.clock.run_for(200)
    assert await tab.page.evaluate("announced") == ["2 unread messages", "4 unread messages"]
    await expect(tab.page.get_by_role("status").filter(has_text="4 unread messages")).to_have_count(1)

    await bob.tab("/messages?list=received")
    await tab.wait_for_badge(0)
    await tab.page.clock.run_for(60_000)
    await expect(tab.page.locator("#announcer")).to_have_text("")
    assert len(await tab.page.evaluate("announced")) == 2


async def test_only_the_visible_tab_announces(sender: Sender, bob: BrowserUser) -> None:
    await bob.context.add_init_script(RECORDER)
    hidden, visible = await bob.tab("/"), await bob.tab("/")
    await hidden.page.evaluate("Object.defineProperty(document, 'visibilityState', { get: () => 'hidden' })")
    await sender.send("bob", "hello bob")
    for tab in (hidden, visible):
        await tab.wait_for_badge(1)
    assert await hidden.page.evaluate("announced") == []
    assert await visible.page.evaluate("announced") == ["1 unread message"]


async def test_header_does_not_move_when_the_badge_changes(sender: Sender, bob: BrowserUser) -> None:
    await bob.context.add_init_script(RECORDER)
    tabs = [await bob.tab("/") for _ in WIDTHS]
    for tab, width in zip(tabs, WIDTHS, strict=True):
        await tab.page.set_viewport_size({"width": width, "height": 640})
        await tab.page.evaluate(HEADER)
        await tab.page.evaluate("shifts.length = 0")
    before = [await tab.page.evaluate(HEADER) for tab in tabs]
    for first, last in ((1, 1), (2, 10), (11, 100)):
        await asyncio.gather(*(sender.send("bob", f"message {number}") for number in range(first, last + 1)))
        for tab in tabs:
            await tab.wait_for_badge(last)
        assert [await tab.page.evaluate(HEADER) for tab in tabs] == before
    await expect(tabs[0].badge).to_have_text("99+")
    await expect(tabs[0].page).to_have_title("(100) Home - Microblog")
    assert [await tab.page.evaluate("shifts") for tab in tabs] == [[], [], []]


async def _favicon(page: Page) -> str:
    url: str = await page.locator("link[rel=icon]").evaluate("(link) => link.href")
    return url

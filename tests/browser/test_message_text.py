"""Messages as people see them: the counter, "Show more", links, and times in the visitor's zone and region."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Page, expect

from tests.browser.browser_users import BrowserUser, Sender
from tests.browser.conftest import OpenBrowser

FAMILY = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}\u200d\N{BOY}"


async def test_counter_counts_as_the_server_and_cuts_nothing(alice: BrowserUser, bob: BrowserUser) -> None:
    tab = await alice.tab("/send_message/bob")
    page = tab.page
    left, field = page.locator("#message_left"), page.locator("#message")
    too_long = page.locator("#message_too_long")
    await expect(left).to_have_text("Characters left: 140")
    await field.fill(FAMILY * 139 + "e\u0301" + "\n ")
    await expect(left).to_have_text("Characters left: 0")
    await expect(too_long).to_have_text("")
    await field.press("Control+a")
    await page.keyboard.insert_text(FAMILY * 143)
    await expect(left).to_have_text("Characters left: -3")
    await expect(too_long).to_have_text("The message is too long.")
    await page.click("#submit")
    await expect(page.locator("#message-errors")).to_have_text("The message has 143 characters. The limit is 140.")
    await expect(field).to_have_value(FAMILY * 143)
    await expect(left).to_have_text("Characters left: -3")
    await field.fill(FAMILY * 140)
    await page.click("#submit")
    await expect(page.get_by_text("Your message has been sent.")).to_be_visible()
    bobs = await bob.tab("/messages?list=received")
    await expect(bobs.page.locator(".post .text")).to_have_text(FAMILY * 140)


@pytest.mark.parametrize("javascript", [True, False])
async def test_lines_after_the_tenth_are_shown_on_request(
    open_browser: OpenBrowser, sender: Sender, javascript: bool
) -> None:
    await sender.send("bob", "\n".join(f"line {number}" for number in range(1, 15)))
    bob = await open_browser("bob", java_script_enabled=javascript)
    page = (await bob.tab("/messages?list=received")).page
    await expect(page.get_by_text("line 10")).to_be_visible()
    await expect(page.get_by_text("line 11")).to_be_hidden()
    await page.locator("summary", has_text="Show more").press("Enter")
    await expect(page.get_by_text("line 14")).to_be_visible()
    await page.get_by_text("Show less").click()
    await expect(page.get_by_text("line 14")).to_be_hidden()


async def test_only_http_addresses_are_links_and_hostile_text_stays_text(bob: BrowserUser, sender: Sender) -> None:
    hostile = '"><img src=x onerror=alert(1)> javascript:alert(1) a@b.example b.example'
    await sender.send("bob", f'\u202e{hostile} https://example.org/"onclick="alert(1)')
    page = (await bob.tab("/messages?list=received")).page
    body = page.locator(".post .body")
    (link,) = await body.locator("a").all()
    await expect(link).to_have_attribute("href", 'https://example.org/"onclick="alert(1)')
    await expect(link).to_have_attribute("rel", "nofollow noopener")
    assert await link.get_attribute("target") is None
    assert await body.locator("img, [onclick]").count() == 0
    # The override in the message does not reverse the link, nor the text after it.
    assert await link.evaluate("link => getComputedStyle(link).unicodeBidi") == "isolate"
    assert await body.evaluate("body => getComputedStyle(body).unicodeBidi") == "isolate"


async def instant(page: Page) -> datetime:
    """The one time on the page."""
    return datetime.fromisoformat(await page.locator("main time").get_attribute("datetime") or "")


async def expect_time(page: Page, now: datetime, text: str) -> None:
    """Check how the page shows the time of its message at ``now``."""
    await page.clock.set_fixed_time(now)
    await page.reload()
    await expect(page.locator("main time")).to_have_text(text)


ZONES = [
    ("en-GB", "Asia/Tokyo", "%-d %b %Y", ", %H:%M"),
    ("en-US", "America/New_York", "%b %-d, %Y", ", %-I:%M %p"),
]


@pytest.mark.parametrize(("locale", "zone", "date", "time"), ZONES)
async def test_times_are_in_the_zone_and_form_of_the_browser(
    open_browser: OpenBrowser, sender: Sender, locale: str, zone: str, date: str, time: str
) -> None:
    await sender.send("bob", "hello bob")
    bob = await open_browser("bob", locale=locale, timezone_id=zone)
    page = (await bob.tab("/messages?list=received")).page
    sent = await instant(page)
    await expect_time(page, sent, "now")
    await expect_time(page, sent + timedelta(days=2), sent.astimezone(ZoneInfo(zone)).strftime(date + time))
    await page.goto("/user/alice")
    joined = (await instant(page)).astimezone(ZoneInfo(zone))
    await expect(page.locator("main time")).to_have_text(joined.strftime(date))


async def test_browser_of_another_region_gets_the_words_of_the_page(open_browser: OpenBrowser, sender: Sender) -> None:
    await sender.send("bob", "hola")
    bob = await open_browser("bob", locale="es-MX")
    page = (await bob.tab("/messages?list=received")).page
    await expect_time(page, await instant(page), "ahora")

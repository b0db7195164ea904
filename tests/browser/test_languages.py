"""Pages in the language and the theme that the browser prefers, or that were chosen in the footer."""

import pytest
from playwright.async_api import Page, expect

from tests.browser.browser_users import Sender
from tests.browser.conftest import OpenBrowser
from tests.server_process import Server

SPANISH = "es-ES"
TAIWAN = "zh-TW"
LIGHT_BACKGROUND = "rgb(255, 255, 255)"

# Records the page's background in every frame.
FRAMES = """
window.painted = [];
requestAnimationFrame(function frame() {
  if (document.body) window.painted.push(getComputedStyle(document.body).backgroundColor);
  requestAnimationFrame(frame);
});
"""


async def test_spanish_browser_gets_spanish_pages(open_browser: OpenBrowser, server: Server) -> None:
    ana = await open_browser(locale=SPANISH)
    tab = await ana.tab("/auth/login")
    page = tab.page
    await expect(page.locator("html")).to_have_attribute("lang", "es")
    await expect(page.get_by_label("Contraseña", exact=True)).to_be_visible()
    tab = await ana.sign_in("bob", server.password)
    await expect(tab.page.get_by_role("link", name="Mensajes")).to_be_visible()
    await tab.open("/messages?list=received")
    await expect(tab.page.get_by_role("heading", name="Mensajes")).to_be_visible()


async def test_taiwanese_browser_gets_chinese_pages(open_browser: OpenBrowser, server: Server, sender: Sender) -> None:
    """Also what the browser module shows: the number in words, the time, the offline notice."""
    ming = await open_browser(locale=TAIWAN)
    tab = await ming.tab("/auth/login")
    await expect(tab.page.locator("html")).to_have_attribute("lang", "zh-Hant")
    await expect(tab.page.get_by_label("密碼", exact=True)).to_be_visible()
    tab = await ming.sign_in("bob", server.password)
    await tab.wait_for_frame()
    for number in (1, 2):
        await sender.send("bob", f"message {number}")
        await expect(tab.page.locator("#message_count_text")).to_have_text(f"{number} 則未讀訊息")
    await expect(tab.page.locator("#announcer")).to_have_text("2 則未讀訊息")
    await tab.open("/messages")
    await expect(tab.page.get_by_role("heading", name="訊息")).to_be_visible()
    await expect(tab.page.locator("main time").first).to_have_text("現在")
    await ming.context.set_offline(True)
    await expect(tab.connection).to_contain_text("離線中，上次更新：")


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_language_and_theme_are_chosen_and_kept(open_browser: OpenBrowser, server: Server, scripts: bool) -> None:
    ana = await open_browser(locale=SPANISH, java_script_enabled=scripts)
    page = (await ana.tab("/auth/register?next=%2Fmessages")).page
    background = await _background(page)
    assert background == LIGHT_BACKGROUND
    await page.get_by_role("button", name="繁體中文").click()
    await expect(page).to_have_url(f"{_root(page)}/auth/register?next=%2Fmessages#preferences")
    await expect(page.locator("html")).to_have_attribute("lang", "zh-Hant")
    await page.get_by_role("button", name="深色").click()
    await expect(page.get_by_role("button", name="深色")).to_have_attribute("aria-pressed", "true")
    assert await _background(page) != background
    tab = await ana.sign_in("bob", server.password)
    await expect(tab.page.get_by_role("link", name="訊息", exact=True)).to_be_visible()
    assert await _background(tab.page) != background
    await tab.page.get_by_role("button", name="淺色").click()
    await tab.page.emulate_media(color_scheme="dark")
    assert await _background(tab.page) == background
    await tab.page.get_by_role("button", name="系統").click()
    await expect(tab.page.get_by_role("button", name="系統")).to_have_attribute("aria-pressed", "true")
    assert await _background(tab.page) != background


async def test_every_frame_of_a_page_has_the_chosen_theme(open_browser: OpenBrowser) -> None:
    visitor = await open_browser()
    page = (await visitor.tab("/")).page
    light = await _background(page)
    await page.get_by_role("button", name="Dark").click()
    await expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    dark = await _background(page)
    await page.add_init_script(FRAMES)
    await page.goto("/auth/login")
    await page.evaluate("new Promise(requestAnimationFrame)")
    assert set(await page.evaluate("window.painted")) == {dark}
    assert dark != light


async def test_choice_keeps_the_place_for_the_keyboard(open_browser: OpenBrowser) -> None:
    visitor = await open_browser()
    page = (await visitor.tab("/")).page
    await page.get_by_role("button", name="Dark").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="English")).to_be_focused()


def _root(page: Page) -> str:
    return "/".join(page.url.split("/")[:3])


async def _background(page: Page) -> str:
    value: str = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    return value

"""Pages in the preferred language of the browser."""

from playwright.async_api import expect

from tests.browser.conftest import OpenBrowser
from tests.server_process import Server

SPANISH = "es-ES"


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

"""The e-mail address and a forgotten password, with the links of real mails."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, Page, expect

from tests.browser.browser_users import TIMEOUT, submit
from tests.mail_server import MailServer, mail_server
from tests.server_process import Server

NEW = "an entirely different phrase"


@pytest_asyncio.fixture(loop_scope="session")
async def mails() -> AsyncIterator[MailServer]:
    async with mail_server() as server:
        yield server


@pytest.fixture
def server(tmp_path: Path, mails: MailServer) -> Iterator[Server]:
    """A server process that sends mail."""
    server = Server(tmp_path)
    server.environ |= {"MICROBLOG_PUBLIC_URL": server.url, "MICROBLOG_SMTP_URL": mails.url}
    server.environ["MICROBLOG_MAIL_FROM"] = "noreply@example.org"
    with server:
        yield server
    assert "Traceback" not in server.logged(), server.logged()


async def sign_in(page: Page, password: str) -> None:
    await page.goto("/auth/login")
    await page.fill("[name=username]", "bob")
    await page.fill("[name=password]", password)
    await submit(page)


async def check(page: Page) -> None:
    """axe finds nothing, and the page is not wider than a phone."""
    await page.evaluate(AXE_SCRIPT)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        results = await page.evaluate("axe.run({ resultTypes: ['violations'] })")
        assert [each["id"] for each in results["violations"]] == [], page.url
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390, page.url


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_address_is_confirmed_and_password_reset(
    chromium: Browser, server: Server, mails: MailServer, scripts: bool
) -> None:
    context = await chromium.new_context(
        base_url=server.url,
        viewport={"width": 390, "height": 640},
        reduced_motion="reduce",
        java_script_enabled=scripts,
    )
    context.set_default_timeout(TIMEOUT)
    page = await context.new_page()

    async def examine() -> None:
        if scripts:
            await check(page)

    await sign_in(page, server.password)
    await page.click("text=bob >> nth=0")
    await page.get_by_role("link", name="Account").click()
    await expect(page.get_by_text("You have no email address here.")).to_be_visible()
    await page.fill("[name=email]", "bob@example.org")
    await page.fill("[name=old_password]", server.password)
    await submit(page)
    await expect(page.get_by_text("is not confirmed yet")).to_be_visible()
    await examine()
    (mail,) = await mails.arrived(1)
    await page.goto(mail.link)
    await expect(page.get_by_text("bob@example.org")).to_be_visible()
    await examine()
    await submit(page)
    await expect(page.get_by_text("bob@example.org is the email address of bob now.")).to_be_visible()
    await examine()
    await submit(page, "form[action='/auth/logout'] button")
    await page.goto("/auth/login")
    await page.get_by_role("link", name="Forgot your password?").click()
    await examine()
    await page.fill("[name=username]", "bob")
    await submit(page)
    await expect(page.get_by_text("If this account exists")).to_be_visible()
    mail = (await mails.arrived(2))[-1]
    assert mail.recipients == ["bob@example.org"]
    await page.goto(mail.link)
    await examine()
    await page.fill("[name=password]", NEW)
    await page.fill("[name=password2]", NEW)
    await submit(page)
    await expect(page.get_by_text("Your password has been changed.")).to_be_visible()
    await sign_in(page, NEW)
    await page.goto(mail.link)
    await expect(page.get_by_text("This link is not valid any more")).to_be_visible()
    await context.close()

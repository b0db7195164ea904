"""The npm package, installed from its packed file, in pages of another origin than the server's."""

import re
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, Page, WebError, expect

from tests import npm_package
from tests.browser.browser_users import TIMEOUT
from tests.browser.site import NotificationServer, Site

ELEMENT = "/node_modules/microblog-rt/unread_badge.js"
SCRIPT = f'<script type="module" src="{ELEMENT}"></script>'
EXAMPLES = re.findall(r"```html\n(.*?)```", (npm_package.SOURCE / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    npm_package.install(npm_package.pack(folder), folder)
    with Site(folder) as site:
        yield site


@pytest.fixture
def server() -> Iterator[NotificationServer]:
    with NotificationServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def page(chromium: Browser) -> AsyncIterator[Page]:
    """An empty browser. The test fails on a script error."""
    failures: list[str] = []

    def failed(error: WebError) -> None:
        failures.append(str(error.error))

    context = await chromium.new_context(reduced_motion="reduce")
    context.set_default_timeout(TIMEOUT)
    context.on("weberror", failed)
    yield await context.new_page()
    await context.close()
    assert not failures, failures


def element(server: NotificationServer, more: str = "") -> str:
    return f'<unread-badge url="{server.url}" token="{server.token}" {more}></unread-badge>'


async def test_badge_shows_0_1_2_3_0_with_a_token(page: Page, site: Site, server: NotificationServer) -> None:
    targets: list[str] = []
    page.on("request", lambda request: targets.append(request.url))
    await page.goto(site.write("badge.html", f"{SCRIPT}<a href=#>Messages {element(server)}</a>"))
    badge = page.locator("unread-badge")
    await expect(badge).to_have_attribute("state", "online")
    assert await page.evaluate("document.querySelector('unread-badge').count") == 0
    for count, text in [(0, None), (1, "1"), (2, "2"), (3, "3"), (100, "99+"), (0, None)]:
        server.publish(count)
        number = badge.locator("[part=badge]")
        if text is None:
            await expect(number).to_be_hidden()
            continue
        await expect(number).to_have_text(text)
        await expect(number).to_be_visible()
        name = f"Messages {count} unread message{'s' if count > 1 else ''}"
        await expect(page.get_by_role("link", name=name)).to_have_count(1)
    assert any(target.startswith(server.url) for target in targets)
    assert [target for target in targets if server.token in target] == []


async def test_growing_number_is_announced_but_not_the_first(
    page: Page, site: Site, server: NotificationServer
) -> None:
    server.publish(2)
    await page.goto(site.write("announced.html", SCRIPT + element(server)))
    await expect(page.locator("[part=badge]")).to_have_text("2")
    status = page.get_by_role("status")
    await expect(status).to_be_empty()
    server.publish(3)
    await expect(status).to_have_text("3 unread messages")


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
async def test_each_example_of_the_readme_shows_the_number(
    page: Page, site: Site, server: NotificationServer, example: str
) -> None:
    (site.folder / "token").write_text(server.token)
    content = example.replace("https://chat.example.org", server.url).replace("TOKEN", server.token)
    await page.goto(site.write("example.html", content))
    for count in (3, 4):
        server.publish(count)
        if "hidden" in example:
            await expect(page.locator("output")).to_have_text(str(count))
        else:
            await expect(page.get_by_text(str(count), exact=True)).to_be_visible()


async def test_events_bubble_out_of_shadow_trees(page: Page, site: Site, server: NotificationServer) -> None:
    content = f"""<div id="host"></div><script type="module">
      window.seen = [];
      document.addEventListener("microblog:notification", ({{ detail, target }}) => seen.push([target.id, detail]));
      host.attachShadow({{ mode: "open" }}).innerHTML = '{element(server)}';
      await import("{ELEMENT}");
    </script>"""
    await page.goto(site.write("shadow.html", content))
    server.publish(7)
    await page.wait_for_function("window.seen?.length")
    ((target, notification),) = await page.evaluate("seen")
    assert target == "host"
    assert (notification["name"], notification["data"]) == ("unread_message_count", 7)


async def test_two_copies_of_the_module_define_the_element_once(
    page: Page, site: Site, server: NotificationServer
) -> None:
    copies = "".join(f'<script type="module" src="{ELEMENT}?{number}"></script>' for number in range(2))
    await page.goto(site.write("copies.html", copies + element(server)))
    server.publish(5)
    await expect(page.locator("[part=badge]")).to_have_text("5")


async def test_element_follows_its_attributes(page: Page, site: Site, server: NotificationServer) -> None:
    server.publish(5)
    await page.goto(site.write("attributes.html", SCRIPT + "<unread-badge></unread-badge>"))
    badge, number = page.locator("unread-badge"), page.locator("[part=badge]")
    await expect(number).to_be_hidden()
    await badge.evaluate("(badge, url) => { badge.setAttribute('url', url); badge.token = 'wrong'; }", server.url)
    await expect(badge).to_have_attribute("state", "signed-out")
    await badge.evaluate("(badge, token) => { badge.token = token; }", server.token)
    await expect(number).to_have_text("5")
    await badge.evaluate("badge => badge.setAttribute('name', 'mentions')")
    await expect(number).to_be_hidden()
    await badge.evaluate("badge => { window.removed = badge; badge.setAttribute('name', 'unread_message_count'); }")
    await expect(number).to_have_text("5")
    await badge.evaluate("badge => badge.remove()")
    await page.wait_for_function("removed.getAttribute('state') === 'closed'")


async def test_strict_content_security_policy_keeps_the_style(
    page: Page, site: Site, server: NotificationServer
) -> None:
    policy = f"default-src 'none'; script-src 'self'; connect-src {server.url}; img-src data:"
    content = f'<meta http-equiv="Content-Security-Policy" content="{policy}">{SCRIPT}{element(server)}'
    server.publish(5)
    await page.goto(site.write("policy.html", content))
    number = page.locator("[part=badge]")
    await expect(number).to_have_text("5")
    await expect(number).to_have_css("background-color", "rgb(201, 42, 42)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_and_320_px_are_enough(
    page: Page, site: Site, server: NotificationServer, scheme: str
) -> None:
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await page.set_viewport_size({"width": 320, "height": 320})
    server.publish(100)
    links = f'<a href="#">Home</a> <a href="#">Messages {element(server)}</a> <a href="#">Settings</a>'
    style = "<style>:root { color-scheme: light dark } a { font: 1.25rem sans-serif; color: inherit }</style>"
    content = f"{style}{SCRIPT}<main><h1>A site</h1><nav>{links}</nav></main>"
    await page.goto(site.write("accessible.html", content))
    await expect(page.locator("[part=badge]")).to_have_text("99+")
    await page.evaluate(AXE_SCRIPT)
    result = await page.evaluate("axe.run()")
    assert [each["id"] for each in result["violations"]] == []
    assert any(each["id"] == "color-contrast" for each in result["passes"])
    assert await page.evaluate("document.documentElement.scrollWidth") == 320


async def test_forced_colours_show_a_border(page: Page, site: Site, server: NotificationServer) -> None:
    await page.emulate_media(forced_colors="active")
    server.publish(3)
    await page.goto(site.write("forced.html", SCRIPT + element(server)))
    number = page.locator("[part=badge]")
    await expect(number).to_have_text("3")
    border, background = await number.evaluate(
        "badge => [getComputedStyle(badge).borderTopColor, getComputedStyle(badge).backgroundColor]"
    )
    assert border != background

"""The language and the theme that a browser has chosen in the footer."""

import re
from dataclasses import replace

import pytest
from quart import Quart, Response

from microblog_rt import files
from microblog_rt.app import create_app
from microblog_rt.settings import Settings
from microblog_rt.web import static_files
from microblog_rt.web.languages import preferred
from tests.web.conftest import Browser, Join, text

DARK = re.compile(r'<link rel="stylesheet" href="[^"]*/css/dark.css"( media="[^"]*")?>')


def cookie(answer: Response) -> str:
    """The Set-Cookie of the preferences; "" if there is none."""
    return next((each for each in answer.headers.getlist("Set-Cookie") if "_preferences" in each), "")


def language(page: str) -> str:
    found = re.search(r'<html lang="([^"]+)">', page)
    assert found, page
    return found[1]


def pressed(page: str) -> list[str]:
    """The values of the choices that the footer shows as chosen."""
    return re.findall(r'value="([^"]+)"[^>]* aria-pressed="true"', page)


async def test_chosen_language_wins_over_the_preferred_one(stranger: Browser) -> None:
    headers = {"Accept-Language": "es"}
    assert language(await text(await stranger.get("/", headers=headers))) == "es"
    for chosen in ("zh-Hant", "en", "es"):
        answer = await stranger.post("/preferences", language=chosen, next="/auth/register?next=/messages")
        assert answer.status_code == 303
        assert answer.headers["Location"] == "/auth/register?next=/messages#preferences"
        page = await text(await stranger.get("/", headers=headers))
        assert (language(page), pressed(page)) == (chosen, [chosen, "system"])


async def test_choosing_one_preference_keeps_the_other(stranger: Browser) -> None:
    await stranger.post("/preferences", language="zh-Hant")
    await stranger.post("/preferences", theme="dark")
    assert pressed(await text(await stranger.get("/"))) == ["zh-Hant", "dark"]
    await stranger.post("/preferences", language="es")
    assert pressed(await text(await stranger.get("/"))) == ["es", "dark"]


@pytest.mark.parametrize(
    ("theme", "scheme", "media"),
    [
        ("system", "light dark", [' media="(prefers-color-scheme: dark)"']),
        ("light", "light", []),
        ("dark", "dark", [""]),
    ],
)
async def test_page_is_rendered_in_the_chosen_theme(
    stranger: Browser, theme: str, scheme: str, media: list[str]
) -> None:
    await stranger.post("/preferences", theme="dark" if theme == "system" else "system")
    await stranger.post("/preferences", theme=theme)
    for path in ("/", "/nothing"):
        page = await text(await stranger.get(path))
        assert f'<meta name="color-scheme" content="{scheme}">' in page
        assert DARK.findall(page) == media


def test_only_the_file_of_the_dark_theme_has_its_colours() -> None:
    """A media query in another file would ignore the chosen theme."""
    found = [path.name for path in (files.STATIC / "css").glob("*.css") if "prefers-color-scheme" in path.read_text()]
    assert found == []


async def test_cookie_has_the_attributes_of_the_others(stranger: Browser) -> None:
    sent = cookie(await stranger.post("/preferences", language="es", theme="light"))
    assert re.fullmatch(r"microblog_preferences_[0-9a-f]{8}=es\.light; .*", sent)
    for attribute in ("SameSite=Lax", "HttpOnly", "Path=/;", f"Max-Age={365 * 86400}"):
        assert attribute in f"{sent};"


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("prefix", "origin", "name", "path"),
    [
        ("/badge", None, r"microblog_preferences_[0-9a-f]{8}_badge", "/badge"),
        ("", "https://microblog.example", "__Host-microblog_preferences", "/"),
        ("/badge", "https://microblog.example", "__Secure-microblog_preferences_badge", "/badge"),
    ],
)
async def test_cookie_belongs_to_one_instance(
    settings: Settings, prefix: str, origin: str | None, name: str, path: str
) -> None:
    app = create_app(replace(settings, path_prefix=prefix, public_url=origin))
    host = {"Host": "microblog.example" if origin else "localhost"}
    own = {**host, "Origin": origin or "http://localhost", "Accept": "text/html"}
    client = app.test_client()
    page = await client.get(f"{prefix}/auth/login", headers=host, scheme="https" if origin else "http")
    html = await text(page)
    assert f'action="{prefix}/preferences"' in html
    assert f'name="next" value="{prefix}/auth/login"' in html
    token = re.search(r'name="csrf_token" value="([^"]+)"', html)
    assert token
    form = {"csrf_token": token[1], "language": "es", "next": f"{prefix}/auth/login"}
    jar = {"Cookie": page.headers["Set-Cookie"].partition(";")[0]}
    answer = await app.test_client(use_cookies=False).post(f"{prefix}/preferences", form=form, headers=own | jar)
    assert answer.headers["Location"] == f"{prefix}/auth/login#preferences"
    assert re.fullmatch(rf"{name}=es\.system; .*", cookie(answer))
    assert f"Path={path};" in f"{cookie(answer)};"
    assert ("Secure" in cookie(answer)) == (origin is not None)
    await app.extensions["services"].close()


@pytest.mark.parametrize(("language", "theme"), [("fr", ""), ("", "pink"), ("es", "x.y"), ("system", ""), ("", "es")])
async def test_unknown_preference_is_refused(stranger: Browser, language: str, theme: str) -> None:
    answer = await stranger.post("/preferences", language=language, theme=theme)
    assert answer.status_code == 400
    assert cookie(answer) == ""


@pytest.mark.parametrize("value", ["", "fr.dark", "en", "en.pink", "..", "en.dark.x", "\u00e9" * 20, "zh_Hant.dark"])
async def test_malformed_cookie_is_ignored(app: Quart, stranger: Browser, value: str) -> None:
    stranger.client.set_cookie("localhost", app.config["PREFERENCES_COOKIE_NAME"], value)
    answer = await stranger.get("/", headers={"Accept-Language": "es"})
    assert answer.status_code == 200
    chosen = pressed(await text(answer))
    assert chosen[0] == ("en" if value.startswith("en") else "es")
    assert chosen[1] == ("dark" if value in ("fr.dark", "zh_Hant.dark") else "system")


@pytest.mark.parametrize("target", ["", "//evil.example", "https://evil.example", "/\\evil.example", "messages"])
async def test_preferences_lead_to_no_other_site(stranger: Browser, target: str) -> None:
    answer = await stranger.post("/preferences", theme="dark", next=target)
    assert answer.headers["Location"] == "/#preferences"


async def test_footer_leads_back_to_a_page_that_a_browser_can_get(join: Join) -> None:
    susan = await join("susan")

    async def back(answer: Response) -> str:
        found = re.search(r'name="next" value="([^"]*)">\s*<div class="choices"', await text(answer))
        assert found
        return found[1]

    assert await back(await susan.get("/user/susan?a=%C3%A9&b=1")) == "/user/susan?a=%C3%A9&amp;b=1"
    assert await back(await susan.get("/nothing/%C3%A9")) == "/nothing/%C3%A9"
    assert await back(await susan.post("/send_message/susan", message="")) == "/send_message/susan"
    assert await back(await susan.post("/messages/read", csrf_token="x")) == ""
    assert await back(await susan.post("/nothing")) == ""


async def test_preferences_outlive_a_change_of_account(join: Join, stranger: Browser) -> None:
    """A form that was loaded before signing in, and the choice after signing out."""
    before = await stranger.token()
    await stranger.register("susan")
    assert (await stranger.post("/preferences", csrf_token=before, language="es")).status_code == 303
    assert language(await text(await stranger.get("/messages"))) == "es"
    await stranger.post("/auth/logout", csrf_token=before)
    assert language(await text(await stranger.get("/"))) == "es"


async def test_names_of_languages_are_in_their_own_language(stranger: Browser) -> None:
    page = await text(await stranger.get("/"))
    for tag, name in {"en": "English", "es": "Español", "zh-Hant": "繁體中文"}.items():
        assert re.search(
            rf'<button name="language" value="{tag}" lang="{tag}" aria-pressed="\w+">{name}</button>', page
        )


async def test_responses_vary_with_what_they_depend_on(stranger: Browser) -> None:
    for path in ("/", "/auth/login", "/nothing"):
        assert (await stranger.get(path)).headers["Vary"] == "Accept, Accept-Language, Cookie"
    assert "Vary" not in (await stranger.get(f"/static/{static_files.current_version()}/rt/main.js")).headers


async def test_errors_for_programs_use_the_chosen_language(stranger: Browser) -> None:
    await stranger.post("/preferences", language="zh-Hant")
    answer = await stranger.get("/nothing", headers={"Accept": "application/json"})
    assert (await answer.get_json(force=True))["detail"] == "這個頁面不存在。"


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("zh-TW", "zh-Hant"),
        ("zh-HK,zh;q=0.9,en;q=0.8", "zh-Hant"),
        ("zh-MO", "zh-Hant"),
        ("zh-Hant", "zh-Hant"),
        ("zh-Hant-SG;q=0.9,en;q=0.1", "zh-Hant"),
        ("ZH_tw", "zh-Hant"),
        ("fr,zh-TW;q=0.5", "zh-Hant"),
        # Simplified Chinese: another language that fits is better, and Traditional Chinese is better than none.
        ("zh-CN,zh;q=0.9,en;q=0.8", "en"),
        ("zh-Hans,es;q=0.1", "es"),
        ("zh-Hans-TW,en;q=0.1", "en"),
        ("zh-CN,zh-TW;q=0.5,en;q=0.3", "zh-Hant"),
        ("zh-CN,zh;q=0.9", "zh-Hant"),
        ("zh-SG", "zh-Hant"),
        ("zh", "zh-Hant"),
        ("zh-CN,de;q=0.5", "zh-Hant"),
        ("zh-CN;q=0,de", "en"),
        # A regional variant fits.
        ("es-MX,en;q=0.5", "es"),
        ("en-GB,es;q=0.9", "en"),
        ("es;q=0.2,en;q=0.4", "en"),
        ("en;q=0,es;q=0.1", "es"),
        ("de", "en"),
        ("*", "en"),
        ("es;q=0.5,*;q=0.1", "es"),
        ("", "en"),
        (";;q,=-", "en"),
    ],
)
def test_language_for_accept_language(accepted: str, expected: str) -> None:
    assert preferred(accepted).tag == expected


def test_chinese_has_one_plural_form() -> None:
    translate = preferred("zh-TW").catalogue.ungettext
    assert {translate("{n} unread message", "{n} unread messages", n) for n in (0, 1, 2, 5)} == {"{n} 則未讀訊息"}


async def test_times_are_in_the_language(join: Join) -> None:
    susan = await join("susan")
    await susan.post("/send_message/susan", message="hello")
    chinese = r"20\d\d年\d+月\d+日 (午夜|凌晨|清晨|早上|上午|中午|下午|晚上)\d"
    for tag, expected in (("zh-Hant", chinese), ("es", r"\d+ \w+ 20\d\d, \d")):
        await susan.post("/preferences", language=tag)
        found = re.search(r"<time [^>]*>([^<]*)</time>", await text(await susan.get("/messages")))
        assert found
        assert re.match(expected, found[1]), found[1]

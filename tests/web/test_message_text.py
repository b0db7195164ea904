"""The HTML of messages: links, escaping, "Show more"."""

import re
from html.parser import HTMLParser

import pytest

from microblog_rt.services import Services
from microblog_rt.web.message_text import message_text
from tests.web.conftest import Join, text


class Parser(HTMLParser):
    """The text, the tags and the addresses of links in a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.links: list[dict[str, str | None]] = []
        self.feed(str(html))
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links.append(dict(attributes))

    def handle_data(self, data: str) -> None:
        self.text += data


LINKS = [
    ("see https://example.org/a_(b)?x=1&y=2#z.", ["https://example.org/a_(b)?x=1&y=2#z"]),
    ("HTTP://example.org", ["HTTP://example.org"]),
    ("(http://example.org/), https://a.example", ["http://example.org/", "https://a.example"]),
    ("https://example.org/путь", ["https://example.org/путь"]),
    ("http://192.0.2.1:8000/x", ["http://192.0.2.1:8000/x"]),
    ('https://example.org/"onclick="alert(1)', ['https://example.org/"onclick="alert(1)']),
    ("https://example.org/<script>alert(1)</script>", ["https://example.org/"]),
    ("https://example.org/'onclick='x", ["https://example.org/'onclick='x"]),
    ("<a href='https://example.org/'>x</a>", ["https://example.org/"]),
]
NO_LINKS = [
    '<script>alert("x")</script>',
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "susan@example.org and mailto:susan@example.org",
    "example.org www.example.org //example.org ftp://example.org",
    "https://paypal.com@evil.example/",
    "https://user:password@evil.example/",
    "https://evil.example/\u202egpj.exe",
    "https://exa\u200bmple.org",
    "https://[::1",
    "http://\N{CYRILLIC SMALL LETTER A}pple.com/login",
    "http://bank.com\N{DIVISION SLASH}login.evil.example/x",
    "https://пример.рф/путь",
    "&lt;b&gt; &amp; {{ 1 }} %(x)s",
]


@pytest.mark.parametrize(("body", "links"), [*LINKS, *((each, []) for each in NO_LINKS)])
def test_only_clear_http_addresses_become_links(body: str, links: list[str]) -> None:
    html = message_text(body)
    found = Parser(html.first)
    assert found.text == body
    assert found.tags == ["a"] * len(links)
    assert [link["href"] for link in found.links] == links
    assert all(link.keys() == {"href", "rel", "dir"} and link["rel"] == "nofollow noopener" for link in found.links)
    assert html.rest == ""


def test_ten_lines_are_shown_at_once() -> None:
    body = "\n".join(f"line {number}" for number in range(1, 11))
    assert message_text(body) == (body, "")
    assert message_text(body + "\n\nhttps://example.org").first == body
    assert Parser(message_text(body + "\n\nhttps://example.org").rest).text == "\nhttps://example.org"


async def test_page_hides_further_lines_without_javascript(join: Join, services: Services) -> None:
    susan = await join("susan")
    await services.messages.send_message(1, 1, "\n".join("abcdefghijklm"))
    page = await text(await susan.get("/messages?list=received"))
    assert re.search(
        r'<p class="text">a\nb\nc.*j</p>\s*<details>\s*<summary.*Show more.*<p class="text">k\nl', page, re.S
    )


async def test_page_shows_hostile_text_as_text(join: Join, services: Services) -> None:
    susan = await join("susan")
    body = '"><img src=x onerror=alert(1)>\u202e</p></article> https://example.org/"onmouseover="alert(1)'
    await services.messages.send_message(1, 1, body)
    page = await text(await susan.get("/messages?list=received"))
    assert "<img" not in page
    assert body in Parser(page).text
    assert {name for link in Parser(page).links for name in link if name.startswith("on")} == set()


async def test_dates_are_whole_instants(join: Join) -> None:
    susan = await join("susan")
    await join("john")
    await susan.post("/send_message/susan", message="hello")
    for path in ("/people", "/user/john", "/messages", "/auth/sessions"):
        times = re.findall(
            r'<time datetime="([^"]*)" data-format="\w+"[^>]*>([^<]*)</time>', await text(await susan.get(path))
        )
        assert times, path
        for datetime, shown in times:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", datetime)
            assert shown.endswith(" UTC")
            assert re.search(r"\d:\d\d:\d\d", shown)

"""Names in the pages: reserved route names, names of any script in addresses and forms."""

import pytest
from quart import Quart

from microblog_rt.accounts.rules import ROUTES
from microblog_rt.web.admission import PATH
from tests.conftest import PASSWORD
from tests.web.conftest import Browser, Join, badge, text


def test_first_segment_of_every_route_is_reserved(app: Quart) -> None:
    routes = [str(rule) for rule in app.url_map.iter_rules()] + [PATH]
    assert {route.split("/")[1] for route in routes} - {""} == ROUTES


@pytest.mark.parametrize("path", ["Владимир", "владимир", "ВЛАДИМИР"])
async def test_name_of_any_script_is_found_in_addresses(join: Join, path: str) -> None:
    sender, recipient = await join("susan"), await join("Владимир")
    assert '<h1 class="name mb-0">Владимир</h1>' in await text(await sender.get(f"/user/{path}"))
    answer = await sender.post(f"/send_message/{path}", message="hello")
    assert answer.status_code == 303
    assert "Владимир" in await text(await sender.get(answer.location))
    assert badge(await text(await recipient.get("/"))) == "1"


async def test_full_width_name_signs_in(join: Join, stranger: Browser) -> None:
    await join("susan")
    answer = await stranger.post("/auth/login", username="ＳＵＳＡＮ", password=PASSWORD)
    assert answer.status_code == 303


@pytest.mark.parametrize(("name", "words"), [("admin", "is reserved"), ("ѕusan", "looks like that of another account")])
async def test_refused_name_is_explained(join: Join, stranger: Browser, name: str, words: str) -> None:
    await join("susan")
    answer = await stranger.register(name)
    assert answer.status_code == 422
    assert words in await text(answer)

"""Unexpected errors are logged once, with the reference that the client gets, on every transport."""

import json
import re
from typing import Any

import pytest
from quart import Quart

from microblog_rt.errors import Unavailable
from microblog_rt.services import Services
from microblog_rt.storage import notifications
from microblog_rt.storage.health import Health
from tests.web.conftest import ORIGIN, Browser, Join, field, text


@pytest.fixture
async def bob(join: Join) -> Browser:
    return await join("bob")


@pytest.fixture(autouse=True)
def broken(services: Services, bob: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(services.conversations, "of_user", breaks)
    monkeypatch.setattr(notifications, "since", breaks)


def logged_once(caplog: pytest.LogCaptureFixture, reference: str) -> None:
    # On a busy machine asyncio's debug mode logs as well.
    (record,) = [each for each in caplog.records if each.name.startswith("microblog_rt")]
    assert reference in record.getMessage()
    assert "broken on purpose" in caplog.text


async def test_error_page_shows_the_reference(bob: Browser, caplog: pytest.LogCaptureFixture) -> None:
    answer = await bob.get("/messages")
    page = await text(answer)
    assert answer.status_code == 500
    found = re.search(r"Reference: ([0-9a-f]{8})", page)
    assert found, page
    assert "broken on purpose" not in page
    logged_once(caplog, found[1])


@pytest.mark.parametrize("path", ["/messages", "/notifications", "/notifications?wait=5"])
async def test_problem_json_has_the_reference(bob: Browser, path: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = await bob.get(path, headers={"Accept": "application/json"})
    problem = await answer.get_json(force=True)
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert (problem["status"], problem["code"]) == (500, "unexpected")
    logged_once(caplog, problem["reference"])


async def test_refused_handshake_has_the_reference(app: Quart, bob: Browser, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    cookie = "; ".join(f"{each.name}={each.value}" for each in bob.client.cookie_jar or [])
    headers = [(b"host", b"localhost"), (b"origin", ORIGIN.encode()), (b"cookie", cookie.encode())]
    scope = {"type": "websocket", "path": "/notifications", "query_string": b"", "headers": headers, "client": None}
    await app.asgi_app(scope, receive, send)  # type: ignore[arg-type]
    start, body = sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 500)
    logged_once(caplog, json.loads(body["body"])["reference"])


async def test_health_checks_do_not_authenticate(
    services: Services, bob: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cookie, while the database is down."""

    def unavailable(*_: object) -> None:
        raise Unavailable

    async def disconnected() -> Health:
        return Health("disconnected")

    for each in ("reading", "feed_read"):
        monkeypatch.setattr(services.storage, each, unavailable)
    monkeypatch.setattr(services.storage, "health", disconnected)
    assert (await bob.get("/healthz")).status_code == 200
    answer = await bob.get("/readyz")
    assert (answer.status_code, (await answer.get_json())["status"]) == (503, "no database")


async def test_unavailable_offers_the_message_to_resend(
    app: Quart, services: Services, bob: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same nonce, so it is sent once. Also if the session could not be looked up."""
    form = await text(await bob.get("/send_message/bob"))
    sent: dict[str, Any] = {
        "csrf_token": field(form, "csrf_token"),
        "nonce": field(form, "nonce"),
        "message": "</textarea> & hello",
    }

    async def unavailable(*_: object) -> None:
        raise Unavailable

    for service, verb in ((services.messages, "send_to"), (services.sessions, "visit")):
        with monkeypatch.context() as patch:
            patch.setattr(service, verb, unavailable)
            answer = await bob.post("/send_message/bob", **sent)
        page = await text(answer)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        form = page.split("<main")[1]
        assert all(field(form, name) == sent[name] for name in ("csrf_token", "nonce"))
        assert "&lt;/textarea&gt; &amp; hello</textarea>" in page
    with monkeypatch.context() as patch:
        patch.setattr(services.sessions, "visit", unavailable)
        foreign = await bob.post("/send_message/bob", headers={"Origin": "https://evil.example"}, **sent)
        forged = await bob.post("/send_message/bob", **sent | {"csrf_token": "guessed"})
    assert 'id="again"' not in await text(forged)
    assert foreign.status_code == 403, "a cross-site form is never offered to resend"
    assert (await bob.post("/send_message/bob", **sent)).status_code == 303
    refused = await bob.get("/")
    assert 'id="again"' not in await text(refused)

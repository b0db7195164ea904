"""The security log: each event once, with who, from where and what; no secrets; bounded."""

import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from quart import Quart

from microblog_rt import cli, security_log
from microblog_rt.accounts import session_name, token_hash
from microblog_rt.app import create_app
from microblog_rt.services import Services
from microblog_rt.settings import Limit, Settings
from tests.command_line import Folder
from tests.conftest import KEY, PASSWORD, PATIENT
from tests.web.conftest import HEADERS, Browser

ADDRESS = "192.0.2.7"
SECRETS = ("secret phrase", "another phrase", PASSWORD)


class Log:
    """What has been logged: the events, and the pairs of each."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """The events since the last call."""
        found = [parsed(each.getMessage()) for each in self._caplog.records if each.name == "microblog_rt.security"]
        self._caplog.clear()
        return found

    def event(self, name: str) -> dict[str, Any]:
        """The pairs of the one event of that name since the last call."""
        (pairs,) = [pairs for event, pairs in self.events() if event == name]
        return pairs


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    assert "\n" not in line
    event, _, rest = line.partition(" ")
    pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|-?\d+)(?: |$)', rest)
    assert " ".join(f"{name}={value}" for name, value in pairs) == rest
    return event, {name: json.loads(value) for name, value in pairs}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Log:
    caplog.set_level(logging.INFO, "microblog_rt.security")
    monkeypatch.setattr(security_log, "_counts", type(security_log._counts)())
    return Log(caplog)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Quart]:
    app = create_app(replace(settings, sign_in_limit=Limit(3, 300)), PATIENT)
    async with app.test_app():
        yield app


@pytest.fixture
def services(app: Quart) -> Services:
    services: Services = app.extensions["services"]
    return services


Post = Callable[..., Awaitable[Any]]


@pytest.fixture
def post(app: Quart) -> Post:
    """Post a form from ``ADDRESS``; ``browser`` keeps its cookies."""
    browser = Browser(app.test_client())

    async def post(path: str, headers: dict[str, str] | None = None, **form: str) -> Any:
        form = {"csrf_token": await browser.token()} | form
        sent = {"form": form, "headers": HEADERS | (headers or {}), "scope_base": {"client": [ADDRESS, 1]}}
        return await browser.client.post(path, **sent)

    return post


@pytest.mark.sqlite
async def test_each_event_says_who_from_where_and_what(post: Post, services: Services, log: Log) -> None:
    new = {"password": "another phrase", "password2": "another phrase"}
    await post("/auth/register", username="susan", password=PASSWORD, password2=PASSWORD)
    registered, signed_in = log.events()
    who = {"address": ADDRESS, "user": "susan", "user_id": 1}
    assert registered == ("account_registered", who)
    assert (signed_in[0], signed_in[1] | {"session": ""}) == ("signed_in", who | {"session": ""})
    await post("/auth/logout")
    assert log.event("signed_out") == {"address": ADDRESS, "user_id": 1, "session": signed_in[1]["session"]}
    await post("/auth/login", username="susan", password="secret phrase")
    assert log.event("sign_in_failed") == {"address": ADDRESS, "user": "susan", "reason": "password"}
    await post("/auth/login", username="susan", password=PASSWORD)
    log.events()
    await post("/auth/logout_everywhere", old_password="secret phrase")
    assert log.event("current_password_wrong") == {"address": ADDRESS, "user": "susan", "reason": "password"}
    user = await services.accounts.known("susan")
    name = session_name(token_hash(await services.sessions.start_session(user, remembered=True)))
    log.events()
    await post("/auth/sessions/end", session=name, old_password=PASSWORD)
    assert log.event("session_ended") == {"address": ADDRESS, "user_id": 1, "session": name}
    await post("/auth/change_password", old_password=PASSWORD, **new)
    assert log.event("password_changed") == who
    await post("/auth/logout_everywhere", old_password="another phrase")
    assert log.event("sessions_ended") == {"address": ADDRESS, "user_id": 1}


@pytest.mark.sqlite
async def test_log_has_no_secrets(post: Post, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """Not even a password that was typed as a user name."""
    caplog.set_level(logging.INFO)
    await post("/auth/register", username="susan", password=PASSWORD, password2=PASSWORD)
    await post("/auth/change_password", old_password=PASSWORD, password="another phrase", password2="another phrase")
    await post("/auth/logout")
    for _ in range(4):
        await post("/auth/login", username="secret phrase", password="secret phrase")
    await post("/auth/login", csrf_token="secret phrase", username="susan", password="secret phrase")
    assert "sign_in_failed" in caplog.text
    assert "limit_reached" in caplog.text
    assert [each for each in SECRETS if each in caplog.text] == []


@pytest.mark.sqlite
async def test_limit_is_logged_once(post: Post, services: Services, log: Log) -> None:
    await services.accounts.register("susan", PASSWORD)
    for _ in range(8):
        await post("/auth/login", username="susan", password="secret phrase")
    expected = {"address": ADDRESS, "limit": "sign_in:account", "user": "susan"}
    assert log.event("limit_reached") == expected


@pytest.mark.sqlite
async def test_refusals_of_origin_and_token_are_logged(app: Quart, post: Post, log: Log) -> None:
    await post("/messages/read", headers={"Origin": "https://evil.example"})
    refused = {
        "address": ADDRESS,
        "reason": "origin_foreign",
        "path": "/messages/read",
        "origin": "https://evil.example",
    }
    assert log.event("origin_refused") == refused
    await post("/messages/read", csrf_token="old")
    assert log.event("csrf_refused") == {"address": ADDRESS, "reason": "csrf_wrong", "path": "/messages/read"}
    hostile = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    answer = await app.test_client().get("/notifications", headers=hostile, scope_base={"client": [ADDRESS, 1]})
    assert answer.status_code == 403
    assert log.event("origin_refused")["path"] == "/notifications"


@pytest.mark.sqlite
async def test_form_of_another_account_is_logged_with_the_user_of_the_session(
    app: Quart, services: Services, log: Log
) -> None:
    browser = Browser(app.test_client())
    await browser.register("susan")
    token = await browser.token()
    await browser.post("/auth/logout")
    await browser.register("john")
    await browser.post("/messages/read", csrf_token=token)
    refused = log.event("csrf_refused")
    assert (refused["reason"], refused["user_id"]) == ("other_account", 2)


@pytest.mark.sqlite
async def test_cookie_that_names_another_user_is_no_session(app: Quart, services: Services) -> None:
    """Even with a valid signature."""
    susan = await services.accounts.register("susan", PASSWORD)
    john = await services.accounts.register("john", PASSWORD)
    token = await services.sessions.start_session(john, remembered=True)
    authentication = app.extensions["authentication"]
    signed = authentication.dump_token(f"{susan.id}.{token}", app)
    browser = Browser(app.test_client())
    browser.client.set_cookie("localhost", authentication.cookie_name, signed)
    assert (await browser.get("/auth/sessions")).location.startswith("/auth/login")
    assert (await browser.get("/notifications")).status_code == 401


def test_values_cannot_forge_lines(log: Log) -> None:
    hostile = 'x" user="root\r\nsigned_in user="susan'
    security_log.note("sign_in_failed", user=hostile, reason="y" * 1000)
    assert log.event("sign_in_failed") == {"user": hostile, "reason": "y" * 200}


def test_lines_of_an_event_are_bounded_and_counted(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(1000):
        security_log.note("sign_in_failed")
    security_log.note("signed_in")
    assert [event for event, _ in log.events()] == ["sign_in_failed"] * 100 + ["signed_in"]
    now += security_log.PERIOD
    security_log.note("signed_in")
    assert log.events() == [("left_out", {"event": "sign_in_failed", "lines": 900}), ("signed_in", {})]


def test_commands_of_the_operator_are_logged(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    result = folder.run("user", "add", "susan", typed="secret phrase 1\n")
    assert result.stderr == ""
    command, registered = [
        parsed(line.partition("microblog_rt.security: ")[2]) for line in map(str.strip, folder.security_log)
    ]
    assert command[0] == "command"
    assert command[1]["command"].endswith("user add")
    assert command[1]["user"] == "susan"
    assert registered == ("account_registered", {"address": "command line", "user": "susan", "user_id": 1})
    assert "secret phrase" not in "".join(folder.security_log)


@pytest.mark.parametrize("declared", [{"trusted_hops": 1}, {"public_url": "https://chat.example.net"}])
@pytest.mark.parametrize("token", [None, "a-token-for-the-metrics"])
async def test_metrics_need_the_token_behind_a_proxy(
    tmp_path: Path, declared: dict[str, Any], token: str | None
) -> None:
    """A proxy on the same machine that sends no forwarding header looks like the operator."""
    url = f"sqlite+aiosqlite:///{tmp_path}/none.db"
    app = create_app(Settings(database_url=url, secret_key=KEY, metrics_token=token, **declared))
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 5))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as asking:
        answers = [
            await asking.get("/metrics"),
            await asking.get("/metrics", headers={"Authorization": f"Bearer {token}"}),
        ]
    await app.extensions["services"].close()
    assert [each.status_code for each in answers] == [404, 200 if token else 404]


@pytest.mark.parametrize(
    ("host", "public_url", "warned"),
    [
        ("0.0.0.0", None, True),
        ("192.0.2.1", None, True),
        ("127.0.0.1", None, False),
        ("0.0.0.0", "https://chat.example.net", False),
    ],
)
def test_plain_http_on_a_public_address_warns(
    caplog: pytest.LogCaptureFixture, host: str, public_url: str | None, warned: bool
) -> None:
    cli._warn_of_plain_http(Settings(public_url=public_url, bind_hosts=frozenset([host])))
    assert (f"plain http on {host}" in caplog.text) is warned
    assert ("MICROBLOG_PUBLIC_URL=https://HOST" in caplog.text) is warned

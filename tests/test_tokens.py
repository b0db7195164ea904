"""Access tokens: what they may read, and that every transport ends with them."""

import asyncio
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update
from websockets.exceptions import ConnectionClosed

from microblog_rt.accounts import Reader, reader_of
from microblog_rt.accounts.tokens import OF_USER
from microblog_rt.errors import Invalid, NotFound, ScopeMissing, TokenEnded
from microblog_rt.models import READ_MESSAGES, READ_NOTIFICATIONS, SCOPES, AccessToken, User
from microblog_rt.services import Services
from microblog_rt.storage.sql_time import now
from tests.clients import Client, send, signed_in
from tests.command_line import Folder
from tests.http_client import DEADLINE, websocket
from tests.server_process import Server
from tests.timing import awake

ALLOWED = "https://app.example"


async def reader(services: Services, user: User, *scopes: str, lasts: int | None = None) -> Reader:
    """A new token of the user; its reader."""
    return reader_of(await services.tokens.add(user, "test", scopes or (READ_NOTIFICATIONS,), lasts))


async def one(services: Services, user: User) -> AccessToken:
    (found,) = await services.tokens.of_user(user.id)
    return found


async def expire(services: Services) -> None:
    """Let every token end now, without a signal."""
    await services.storage.write(lambda tx: tx.execute(update(AccessToken).values(expires=now() - 1)))


async def test_token_reads_as_a_session_does(services: Services, susan: User) -> None:
    session, token = await signed_in(services, susan), await reader(services, susan)
    await send(services, susan)
    for each in (session, token):
        (found,) = await services.feed.page(each, 0)
        assert (found.name, found.data) == ("unread_message_count", 1)
        assert [one.data for one in await services.feed.page(each, 0, ["unread_message_count"])] == [1]
        assert await services.feed.page(each, 0, ["other"]) == []


async def test_tokens_and_sessions_are_read_in_one_batch(services: Services, susan: User, john: User) -> None:
    readers = [await signed_in(services, susan), await reader(services, susan), await reader(services, john)]
    readers += [await reader(services, susan), await reader(services, john, READ_MESSAGES)]
    await send(services, susan)
    pages = await asyncio.gather(*(services.feed.page(each, 0) for each in readers), return_exceptions=True)
    assert [len(page) for page in pages[:4] if isinstance(page, list)] == [1, 1, 0, 1]
    assert isinstance(pages[4], ScopeMissing)


async def test_token_of_another_user_reads_nothing(services: Services, susan: User, john: User) -> None:
    token = await reader(services, susan)
    for forged in (Reader(john.id, token.token_hash, bearer=True), Reader(susan.id, token.token_hash)):
        with pytest.raises(type(forged.ended)):
            await services.feed.page(forged, 0)


async def test_token_without_the_scope_reads_nothing(services: Services, susan: User) -> None:
    token = await reader(services, susan, READ_MESSAGES)
    await send(services, susan)
    for _ in range(2):  # also when a watch could answer
        with pytest.raises(ScopeMissing) as refused:
            await services.feed.page(token, 0)
        assert refused.value.values == {"scope": READ_NOTIFICATIONS}
        await services.feed.page(await reader(services, susan), 0)
    with pytest.raises(ScopeMissing):
        await services.feed.hold(token, 0, (), 5)


async def test_revoked_token_ends_its_stream_and_no_other(services: Services, susan: User) -> None:
    kept, ended = await reader(services, susan), await reader(services, susan)
    clients = [Client(services, each) for each in (kept, ended)]
    for client in clients:
        await client.connect()
    newest = (await services.tokens.of_user(susan.id))[0]
    assert await services.tokens.revoke(susan.id, newest.id)
    assert isinstance(await clients[1].refused(), TokenEnded)
    await send(services, susan)
    await clients[0].until(lambda: clients[0].state)
    with pytest.raises(TokenEnded):
        await services.feed.page(ended, 0)
    await clients[0].disconnect()


async def test_poll_that_is_watched_ends_with_its_token(services: Services, susan: User) -> None:
    token = await reader(services, susan)
    assert [await services.feed.page(token, 0) for _ in range(3)] == [[], [], []]
    await services.tokens.revoke(susan.id, (await one(services, susan)).id)
    with pytest.raises(TokenEnded):
        await services.feed.page(token, 0)


async def test_expired_token_ends_its_stream(services: Services, susan: User) -> None:
    client = Client(services, await reader(services, susan, lasts=1))
    await client.connect()
    assert isinstance(await client.refused(), TokenEnded)
    assert await services.tokens.of_user(susan.id) == []


@pytest.mark.parametrize("end", ["password", "disable"])
async def test_tokens_end_with_the_password_and_the_account(services: Services, susan: User, end: str) -> None:
    client = Client(services, await reader(services, susan))
    await client.connect()
    if end == "password":
        await services.accounts.set_password("susan", "another long password")
    else:
        await services.accounts.disable("susan")
    assert isinstance(await client.refused(), TokenEnded)
    assert await services.tokens.of_user(susan.id) == []


async def test_disabled_user_gets_no_token(services: Services, susan: User) -> None:
    await services.accounts.disable("susan")
    with pytest.raises(Invalid, match="account_disabled"):
        await services.tokens.add(susan, "test", [READ_NOTIFICATIONS])


@pytest.mark.parametrize(
    ("name", "scopes", "reason"),
    [
        ("", [READ_MESSAGES], "token_name_length"),
        ("\0\n ", [READ_MESSAGES], "token_name_length"),
        ("x" * 101, [READ_MESSAGES], "token_name_length"),
        ("test", [], "token_scope_missing"),
        ("test", ["messages:delete"], "token_scope_unknown"),
        ("test", [f"{READ_MESSAGES} {SCOPES[0]}"], "token_scope_unknown"),
    ],
)
async def test_invalid_token_is_not_created(
    services: Services, susan: User, name: str, scopes: list[str], reason: str
) -> None:
    with pytest.raises(Invalid, match=reason):
        await services.tokens.add(susan, name, scopes)
    assert await services.tokens.of_user(susan.id) == []


async def test_number_of_tokens_is_limited(services: Services, susan: User) -> None:
    for _ in range(OF_USER):
        await reader(services, susan)
    with pytest.raises(Invalid, match="too_many_tokens"):
        await reader(services, susan)
    await expire(services)
    await reader(services, susan)


async def test_last_use_is_stored_once_a_minute(services: Services, susan: User) -> None:
    token = await reader(services, susan)
    assert (await one(services, susan)).last_used is None
    await services.feed.page(token, 0)
    await asyncio.gather(*services.storage._writes)
    used = (await one(services, susan)).last_used
    assert used is not None
    services.tokens._noted.clear()  # as another process
    await services.feed.page(token, 0)
    await asyncio.gather(*services.storage._writes)
    assert (await one(services, susan)).last_used == used


async def test_read_does_not_wait_for_the_last_use(services: Services, susan: User) -> None:
    token, written = await reader(services, susan), asyncio.Event()

    async def write(*_: object) -> None:
        await written.wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services.storage, "_write", write)
        assert await services.feed.page(token, 0) == []
        assert len(services.storage._writes) == 1
        written.set()


async def test_unknown_token_stores_no_use(services: Services, susan: User) -> None:
    with pytest.raises(TokenEnded):
        await services.feed.page(reader_of(f"mbrt_{susan.id}_{'x' * 43}"), 0)
    assert services.tokens._noted == {}


async def test_tokens_of_other_users_cannot_be_revoked(services: Services, susan: User, john: User) -> None:
    await reader(services, susan)
    assert not await services.tokens.revoke(john.id, (await one(services, susan)).id)
    with pytest.raises(NotFound):
        await services.tokens.revoke_id("nothing")
    await services.tokens.revoke_id((await one(services, susan)).id)
    assert await services.tokens.of_user(susan.id) == []


@pytest.mark.parametrize("text", ["", "mbrt", "mbrt_0_" + "x" * 43, "mbrt_1_" + "x" * 42, "mbrt_1_" + "x" * 44])
def test_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenEnded):
        reader_of(text)


# Over HTTP: the commands in one process, the streams on the push edge of another.


def add(folder: Path, server: Server, *scopes: str, name: str = "bob") -> str:
    """A token from the command line."""
    words = [word for scope in scopes or (READ_NOTIFICATIONS,) for word in ("--scope", scope)]
    result = Folder(folder).run("token", "add", name, *words, **server.environ)
    assert re.fullmatch(r"mbrt_\d+_[\w-]{43}\n", result.stdout), result
    return result.stdout.strip()


def bearer(token: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}


@pytest.fixture
def on_a_bus(tmp_path: Path, database_environ: dict[str, str]) -> Iterator[Server]:
    """A server that hears of the changes of other processes, on each kind of database."""
    bus = "postgresql://" if database_environ else "sqlite://"
    with Server(tmp_path, environ=database_environ | {"MICROBLOG_BUS_URL": bus}) as server:
        yield server
    assert server.warnings_logged() == []


async def test_revoked_token_closes_sockets_and_polls_at_once(on_a_bus: Server, tmp_path: Path) -> None:
    """The command revokes it in another process than that which serves the streams."""
    server, folder = on_a_bus, Folder(tmp_path)
    token = await asyncio.to_thread(add, tmp_path, server)
    listed = await asyncio.to_thread(partial(folder.run, "token", "list", "bob", **server.environ))
    token_id = listed.stdout.split("\t")[0]
    headers = bearer(token)
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=DEADLINE, headers=headers) as client,
        websocket(server.url, "", headers=headers, origin=None) as tab,
    ):
        assert await tab.recv() == "[]"
        held = asyncio.create_task(client.get("/notifications?wait=20"))
        while not await asyncio.to_thread(server.holds):
            pass
        revoked = await asyncio.to_thread(partial(folder.run, "token", "revoke", token_id, **server.environ))
        assert revoked.stdout == f"The token {token_id} is revoked.\n"
        async with awake() as seconds:
            answer, closed = await asyncio.gather(held, _closed(tab))
            assert seconds() < 1
        assert (answer.status_code, closed) == (401, 4401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        for query in ("", "?wait=1"):
            assert (await client.get(f"/notifications{query}")).json()["code"] == "signed_out"


async def _closed(tab: object) -> int | None:
    try:
        while True:
            await tab.recv()  # type: ignore[attr-defined]
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else None


def test_token_list_shows_no_secret(server: Server, tmp_path: Path) -> None:
    token = add(tmp_path, server, *SCOPES)
    listed = Folder(tmp_path).run("token", "list", "bob").stdout
    assert token.split("_", 2)[2] not in listed
    assert " ".join(SCOPES) in listed
    assert "last used never" in listed
    assert httpx.get(f"{server.url}/notifications", headers=bearer(token)).status_code == 200
    for words in (("add", "bob", "--scope", "x"), ("add", "bob")):
        assert Folder(tmp_path).run("token", *words).returncode == 2
    assert "--expires" in Folder(tmp_path).refused("token", "add", "bob", "--scope", SCOPES[0], "--expires", "soon")
    assert "no user called john" in Folder(tmp_path).refused("token", "list", "john")
    assert "no access token" in Folder(tmp_path).refused("token", "revoke", "nothing")


def test_cookies_beside_a_token_are_ignored(server: Server, tmp_path: Path) -> None:
    alice = server.person("alice")
    token = add(tmp_path, server)
    answer = alice.client.get("/notifications", headers=bearer(token[:-1] + "~"))
    assert answer.status_code == 401
    assert answer.json()["code"] == "signed_out"
    alice.send("bob", "hello")
    (found,) = alice.client.get("/notifications", headers=bearer(token)).json()
    assert found["data"] == 1
    two = [("Authorization", f"Bearer {token}")] * 2
    assert httpx.get(f"{server.url}/notifications", headers=two).status_code == 401
    assert httpx.get(f"{server.url}/notifications?token={token}").status_code == 401
    alice.close()


@pytest.fixture
def with_origin(tmp_path: Path) -> object:
    with Server(tmp_path, environ={"MICROBLOG_ALLOWED_ORIGINS": f"{ALLOWED}, https://other.example"}) as server:
        yield server
    assert server.warnings_logged() == []


@pytest.mark.parametrize("query", ["", "?wait=0.01", "?since=nan"])
def test_allowed_origin_reads_with_a_token(with_origin: Server, tmp_path: Path, query: str) -> None:
    headers = bearer(add(tmp_path, with_origin), **{"Origin": ALLOWED, "Sec-Fetch-Site": "cross-site"})
    url = f"{with_origin.url}/notifications{query}"
    for _ in range(2):
        answer = httpx.get(url, headers=headers)
        assert answer.status_code == (400 if "nan" in query else 200)
        assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
        assert answer.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in answer.headers
    own = httpx.get(url, headers=headers | {"Origin": with_origin.url, "Sec-Fetch-Site": "same-origin"})
    assert own.status_code == answer.status_code
    assert "Access-Control-Allow-Origin" not in own.headers


def test_other_origins_are_refused(with_origin: Server, tmp_path: Path) -> None:
    token, bob = add(tmp_path, with_origin), with_origin.person("bob")
    url = f"{with_origin.url}/notifications"
    for origin in ("https://evil.example", "null", ALLOWED + ".evil.example", f"{ALLOWED}:8443"):
        answer = httpx.get(url, headers=bearer(token, Origin=origin))
        assert (answer.status_code, answer.json()["code"]) == (403, "origin_foreign")
        assert "Access-Control-Allow-Origin" not in answer.headers
    with_cookie = bob.client.get(url, headers={"Origin": ALLOWED})
    assert (with_cookie.status_code, with_cookie.json()["code"]) == (403, "origin_foreign")
    bob.close()


def test_preflight_of_an_allowed_origin_is_answered(with_origin: Server) -> None:
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    url = f"{with_origin.url}/notifications"
    answer = httpx.options(url, headers={"Origin": ALLOWED, **asks})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    refused = httpx.options(url, headers={"Origin": "https://evil.example", **asks})
    assert refused.status_code == 405
    assert not [name for name in refused.headers if name.startswith("access-control")]


async def test_sockets_obey_the_allowed_origins(with_origin: Server, tmp_path: Path) -> None:
    headers = bearer(await asyncio.to_thread(add, tmp_path, with_origin))
    for origin in (ALLOWED, None, with_origin.url):
        async with websocket(with_origin.url, "", headers=headers, origin=origin) as tab:
            assert await tab.recv() == "[]"
    with pytest.raises(Exception, match="403"):
        async with websocket(with_origin.url, "", headers=headers, origin="https://evil.example"):
            pass


def test_api_answers_an_allowed_origin(with_origin: Server, tmp_path: Path) -> None:
    headers = bearer(add(tmp_path, with_origin, *SCOPES), Origin=ALLOWED)
    url = f"{with_origin.url}/api/v1/users/bob/notifications/build"
    asks = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization, content-type"}
    preflight = httpx.options(url, headers={"Origin": ALLOWED, **asks})
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Methods"]) == (204, "DELETE, PUT")
    assert "Idempotency-Key" in preflight.headers["Access-Control-Allow-Headers"]
    for content, status in (({"data": 1}, 200), ({}, 422)):
        answer = httpx.put(url, json=content, headers=headers)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (status, ALLOWED)
    foreign = httpx.put(url, json={"data": 2}, headers=headers | {"Origin": "https://evil.example"})
    assert (foreign.status_code, foreign.json()["code"]) == (403, "origin_foreign")
    assert "Access-Control-Allow-Origin" not in foreign.headers
    (build,) = httpx.get(f"{with_origin.url}/notifications", headers=headers).json()
    assert build["data"] == 1


def test_large_batch_needs_a_token_that_may_publish(server: Server, tmp_path: Path) -> None:
    items = [{"user": "bob", "key": f"k{number}", "data": "x" * 1900} for number in range(500)]
    url, may = f"{server.url}/api/v1/notifications", add(tmp_path, server, *SCOPES)
    may_not = add(tmp_path, server)
    for token, status in ((may, 200), (may_not, 403), (may[:-4] + "AAAA", 401)):
        assert httpx.post(url, json={"items": items}, headers=bearer(token), timeout=DEADLINE).status_code == status
    longer = [item | {"data": "x" * 4000} for item in items]
    assert httpx.post(url, json={"items": longer}, headers=bearer(may), timeout=DEADLINE).status_code == 413

"""Replays of invalid cookies, access tokens and signed tokens (JWTs), and those that end while subscribed.

On every transport. ``python -m tests.replays 1000 500`` is the full form: 1,000 replays, 500 revocations.
"""

import asyncio
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests import http_client, site_tokens
from tests.command_line import Folder
from tests.http_client import Person, session_cookie
from tests.server_process import Server
from tests.timing import awake

ENVIRON = {f"MICROBLOG_{name}": "" for name in ("SIGN_IN_LIMIT", "SIGN_IN_GLOBAL_LIMIT", "TABS_PER_USER")}
ENVIRON |= {"MICROBLOG_JWT_KEY": site_tokens.SECRET, "MICROBLOG_JWT_AUDIENCE": site_tokens.AUDIENCE}

# A credential is the Cookie header, or a token's Authorization header, which begins with "Bearer ".
Request = Callable[[Server, str], Awaitable[str]]
BEARER = "Bearer "
NO_TLS = False  # which saves the time to load certificates


async def poll(server: Server, cookie: str) -> str:
    return await _status(server, "/notifications", cookie)


async def long_poll(server: Server, cookie: str) -> str:
    return await _status(server, "/notifications?wait=5", cookie)


async def event_stream(server: Server, cookie: str) -> str:
    return await _stream_status(server, "text/event-stream", cookie)


async def json_lines(server: Server, cookie: str) -> str:
    return await _stream_status(server, "application/x-ndjson", cookie)


async def page(server: Server, cookie: str) -> str:
    return await _status(server, "/messages", cookie)


def header(credential: str) -> dict[str, str]:
    return {"Authorization" if credential.startswith(BEARER) else "Cookie": credential.rstrip()}


async def websocket(server: Server, credential: str) -> str:
    try:
        async with http_client.websocket(server.url, "", headers=header(credential)) as tab:
            await tab.recv()
            return "open"
    except InvalidStatus as refusal:
        return str(refusal.response.status_code)


async def _status(server: Server, path: str, cookie: str) -> str:
    async with httpx.AsyncClient(base_url=server.url, timeout=http_client.DEADLINE, verify=NO_TLS) as client:
        answer = await client.get(path, headers=header(cookie))
    location = answer.headers.get("Location", "")
    return str(answer.status_code) + (" to sign in" if location.startswith("/auth/login") else "")


async def _stream_status(server: Server, accept: str, cookie: str) -> str:
    headers = header(cookie) | {"Accept": accept}
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=http_client.DEADLINE, verify=NO_TLS) as client,
        client.stream("GET", "/notifications", headers=headers) as answer,
    ):
        return str(answer.status_code)


REFUSALS: dict[Request, str] = dict.fromkeys([poll, long_poll, event_stream, json_lines, websocket], "401")
REFUSALS |= {page: "303 to sign in"}
ACCEPTANCES: dict[Request, str] = {poll: "200", event_stream: "200", json_lines: "200", websocket: "open", page: "200"}


def value(person: Person) -> str:
    return str(person.client.cookies[person.session_cookie])


def stale(server: Server) -> Iterator[str]:
    """Cookies that were valid, each ended in another way."""
    for end in (logged_out, signed_out_everywhere, password_changed, expired):
        person = server.person("bob")
        kept = value(person)
        end(person)
        person.close()
        yield kept


def logged_out(person: Person) -> None:
    person.post("/auth/logout")


def signed_out_everywhere(person: Person) -> None:
    person.post("/auth/logout_everywhere", old_password=person.server.password)


def password_changed(person: Person) -> None:
    word = person.server.password
    for old, new in ((word, f"{word}-changed"), (f"{word}-changed", word)):
        answer = person.post("/auth/change_password", old_password=old, password=new, password2=new)
        assert answer.status_code == httpx.codes.SEE_OTHER, answer.text


def expired(person: Person) -> None:
    with sqlite3.connect(person.server.folder / "microblog.db") as database:
        database.execute("UPDATE session SET expires = ?", (time.time_ns() // 1000 - 1,))
    database.close()


def token(server: Server, name: str = "bob") -> str:
    """A new access token."""
    result = Folder(server.folder).run("token", "add", name, "--scope", "notifications:read", **server.environ)
    return result.stdout.strip()


def stale_tokens(server: Server) -> Iterator[str]:
    """Tokens that were valid, each ended in another way. Disables alice."""
    folder = Folder(server.folder)
    yield (kept := token(server))
    with sqlite3.connect(server.folder / "microblog.db") as database:
        database.execute("UPDATE access_token SET expires = ?", (time.time_ns() // 1000 - 1,))
    database.close()
    yield (kept := token(server))
    token_id = folder.run("token", "list", "bob", **server.environ).stdout.split("\t")[0]
    assert "revoked" in folder.run("token", "revoke", token_id, **server.environ).stdout, kept
    yield token(server, "alice")
    assert "disabled" in folder.run("user", "disable", "alice", **server.environ).stdout


def stale_signed_tokens(server: Server) -> Iterator[str]:
    """Signed tokens that were valid, each ended in another way."""
    yield site_tokens.signed("reader", exp=time.time() - 1)
    yield site_tokens.signed("reader")
    site_user_ended(server, "reader")


def site_user_ended(server: Server, name: str) -> None:
    """What the other site does to sign that user out."""
    service = header(f"{BEARER}{site_tokens.signed('service', scope=site_tokens.PUBLISH)}")
    httpx.delete(f"{server.url}/api/v1/users/{name}/sessions", headers=service).raise_for_status()


def tampered(good: str, chance: random.Random) -> str:
    """A valid credential with one change."""
    place = chance.randrange(len(good))
    other = chance.choice("abcXYZ019-_.")
    change = chance.randrange(4)
    if change == 0:
        return good[:place]
    if change == 1:
        return good[:place] + other + good[place:]
    if change == 2:
        return good[:place] + good[place + 1 :]
    # Changing the unused bits of the last character is not tampering.
    place = min(place, len(good) - 2)
    return good[:place] + (other if other != good[place] else "~") + good[place + 1 :]


async def replay(server: Server, count: int, seed: int = 1) -> dict[str, int]:
    """Make ``count`` requests with invalid credentials; the unexpected responses, counted."""
    chance = random.Random(seed)
    ended = await asyncio.to_thread(lambda: list(stale(server)))
    with_session = await asyncio.to_thread(server.person, "bob")
    cookie, good = f"{session_cookie(server.url)}=", value(with_session)
    ended_tokens = await asyncio.to_thread(lambda: list(stale_tokens(server)))
    good_token = await asyncio.to_thread(token, server)
    ended_signed = await asyncio.to_thread(lambda: list(stale_signed_tokens(server)))
    good_signed = site_tokens.signed("visitor")
    for ask, expected in ACCEPTANCES.items():
        assert await ask(server, f"{cookie}{good}") == expected, "the precondition"
        for bearer in (good_token, good_signed):
            assert ask is page or await ask(server, f"{BEARER}{bearer}") == expected, "the precondition"
    kinds = [(cookie, ended, good), (BEARER, ended_tokens, good_token), (BEARER, ended_signed, good_signed)]
    wrong: dict[str, int] = {}
    asks = list(REFUSALS)
    for number in range(count):
        ask = asks[number % len(asks)]
        prefix, over, valid = kinds[number // (2 * len(asks)) % len(kinds)]
        secret = chance.choice(over) if number // len(asks) % 2 else tampered(valid, chance)
        answer = await ask(server, prefix + secret)
        if answer != REFUSALS[ask]:
            wrong[f"{ask.__name__}: {answer} for {prefix}{secret}"] = 1
    with_session.close()
    return wrong


async def revoke(server: Server, count: int) -> list[float]:
    """End ``count`` credentials, each with a WebSocket and a long poll; the seconds until both were closed.

    Sessions, access tokens and signed tokens in turn.
    """
    took = []
    person = await asyncio.to_thread(server.person, "bob")
    for number in range(count):
        kind = (_session, _access_token, _signed_token)[number % 3]
        credential, end = await asyncio.to_thread(kind, server, person, number)
        took.append(await _revoked(server, credential, end))
    person.close()
    return took


Ending = tuple[str, Callable[[], object]]  # a credential, and the function that ends it


def _session(server: Server, _: Person, number: int) -> Ending:
    person = server.person("bob")
    form = {"csrf_token": person.token()}

    def end() -> None:
        person.client.post("/auth/logout", data=form, headers={"Origin": server.url})
        person.close()

    return f"{person.session_cookie}={value(person)}", end


def _access_token(server: Server, person: Person, number: int) -> Ending:
    secret = token(server)
    credential = f"{BEARER}{secret}"
    listed = httpx.get(f"{server.url}/api/v1/tokens", headers=header(credential)).raise_for_status().json()
    (token_id,) = [each["id"] for each in listed["tokens"] if each["current"]]
    form = {"csrf_token": person.token(), "token": token_id}
    return credential, partial(person.client.post, "/auth/tokens/revoke", data=form, headers={"Origin": server.url})


def _signed_token(server: Server, _: Person, number: int) -> Ending:
    name = f"reader{number}"
    return f"{BEARER}{site_tokens.signed(name)}", partial(site_user_ended, server, name)


async def _revoked(server: Server, credential: str, end: Callable[[], object]) -> float:
    async with http_client.websocket(server.url, "", headers=header(credential)) as tab:
        await tab.recv()
        held = asyncio.create_task(_status(server, "/notifications?wait=20", credential))
        await asyncio.sleep(0.05)  # for the request to arrive; if it does not, it is refused at once
        async with awake() as seconds:
            _, code, answer = await asyncio.gather(asyncio.to_thread(end), _close_code(tab), held)
            assert (code, answer) == (4401, "401"), (code, answer)
            return seconds()


async def _close_code(tab: object) -> int | None:
    try:
        while True:
            await tab.recv()  # type: ignore[attr-defined]
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else None


def main(replays: int, revocations: int) -> None:
    """Print the results of the full form."""
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), environ=ENVIRON) as server:
        start = time.monotonic()
        wrong = asyncio.run(replay(server, replays))
        print(f"{replays} replays in {time.monotonic() - start:.0f} s: {len(wrong)} accepted", *wrong, sep="\n")
        took = sorted(asyncio.run(revoke(server, revocations)))
        p99 = took[int(len(took) * 0.99)]
        print(
            f"{revocations} revocations: median {took[len(took) // 2]:.3f} s, p99 {p99:.3f} s, worst {took[-1]:.3f} s"
        )
        assert not server.warnings_logged()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""Requests of the JSON API, repeated with the same Idempotency-Key until there is a response or the time is over."""

import asyncio
import json
import random
import uuid
from collections.abc import Iterable, Iterator
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from microblog_rt.client.errors import Rejected, Unreachable, rejected
from microblog_rt.client.events import Notification, notification
from microblog_rt.client.link import Link
from microblog_rt.client.responses import milliseconds, problem
from microblog_rt.client.timers import Backoff, Random

API = "/api/v1"
REPEATED = {429, 502, 503, 504}
BATCH = 500  # items
BATCH_BYTES = 900_000  # the server accepts a body of 1 MiB

Item = tuple[str, str, Any]  # user, key, data


class Retries:
    """When to repeat a request, within ``timeout`` seconds of its start at ``now``; times in seconds.

    >>> retries = Retries(timeout=10, now=0, random=lambda: 0.5)
    >>> retries.pause(now=1), retries.pause(now=2), retries.pause(now=3, retry_after=4)
    (0.25, 0.5, 4)
    >>> retries.pause(now=7, retry_after=4) is None
    True
    """

    def __init__(self, timeout: float, now: float, random: Random = random.random) -> None:
        self._until = now + timeout
        self._backoff = Backoff(random)

    def pause(self, now: float, retry_after: float | None = None) -> float | None:
        """Seconds to wait before the next request; None if there is no time for it."""
        pause = self._backoff.next() / 1000
        pause = pause if retry_after is None else retry_after
        return pause if now + pause <= self._until else None


class Api:
    """The operations of the JSON API at one server."""

    def __init__(self, link: Link, timeout: float) -> None:
        self._link = link
        self._timeout = timeout

    async def get(self, path: str) -> Any:
        return await self._call("GET", path)

    async def send(self, recipient: str, body: str, key: str | None) -> dict[str, Any]:
        sent = await self._call("POST", "/messages", {"recipient": recipient, "body": body}, key or new_key())
        return dict(sent or {})

    async def mark_read(self, first: float | None, up_to: float | None) -> list[Notification]:
        interval = {"from": first, "up_to": up_to}
        body = {name: value for name, value in interval.items() if value is not None} or {"all": True}
        return _notifications(await self._call("POST", "/messages/read", body, new_key()))

    async def publish(self, user: str, name: str, data: Any, key: str | None) -> None:
        path = f"/users/{_segment(user)}/notifications/{_segment(name)}"
        await self._call("PUT", path, {"data": data}, key or new_key())

    async def publish_many(self, items: Iterable[Item], key: str | None) -> list[Rejected | None]:
        results: list[Rejected | None] = []
        key = key or new_key()
        for number, batch in enumerate(_batches(items)):
            answer = await self._call("POST", "/notifications", {"items": batch}, _part(key, number))
            results += [_result(each) for each in answer["results"]]
        return results

    async def _call(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """The JSON of the response; None without one."""
        headers = {"Accept": "application/json"} | ({"Idempotency-Key": key} if key else {})
        loop = asyncio.get_running_loop()
        retries = Retries(self._timeout, loop.time())
        while True:
            error: Rejected | Unreachable
            retry_after = None
            try:
                response = await self._link.request(method, API + path, json=body, headers=headers)
                if response.is_success:
                    return _json(response)
                error = _error(response)
                if response.status_code not in REPEATED:
                    raise error
                retry_after = error.retry_after
            except httpx.TransportError as failure:
                error = Unreachable(f"{self._link.url}: {failure or type(failure).__name__}")
            except _NotJson:
                error = Unreachable(f"{self._link.url}: the response is not JSON")
            pause = retries.pause(loop.time(), retry_after)
            if pause is None:
                raise error
            await asyncio.sleep(pause)


class _NotJson(Exception):
    """A success that is not the application's, as of a captive portal."""


def new_key() -> str:
    """A new Idempotency-Key."""
    return uuid.uuid4().hex


def _part(key: str, number: int) -> str:
    """The Idempotency-Key of one of the requests that share ``key``."""
    return key if number == 0 else sha256(f"{number} {key}".encode()).hexdigest()


def _segment(text: str) -> str:
    """``text`` as one segment of a path. URLs are shortened by the segments ``.`` and ``..``, unless encoded."""
    return "%2E" * len(text) if text in (".", "..") else quote(text, safe="")


def _json(response: httpx.Response) -> Any:
    if response.status_code == HTTPStatus.NO_CONTENT:
        return None
    try:
        return response.json()
    except ValueError:
        raise _NotJson from None


def _error(response: httpx.Response) -> Rejected:
    code, detail = problem(response.headers, response.text)
    wait = milliseconds(response.headers, "retry-after")
    return rejected(response.status_code, code, detail, wait / 1000 if wait else None)


def _result(item: dict[str, Any]) -> Rejected | None:
    """One result of a batch: None if it was accepted."""
    status = int(item["status"])
    if 200 <= status < 300:
        return None
    return rejected(status, str(item.get("code", "")), str(item.get("detail", "")))


def _batches(items: Iterable[Item]) -> Iterator[list[dict[str, Any]]]:
    """The items in requests that the server accepts."""
    batch: list[dict[str, Any]] = []
    size = 0
    for user, name, data in items:
        item = {"user": user, "key": name, "data": data}
        length = len(json.dumps(item).encode())
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    if batch:
        yield batch


def _notifications(answer: Any) -> list[Notification]:
    """The notifications of a response: an array like that of a poll, or one notification."""
    return [notification(each) for each in (answer if isinstance(answer, list) else [answer] if answer else [])]

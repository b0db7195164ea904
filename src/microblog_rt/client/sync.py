"""``SyncClient``: the client without ``await``. An event loop in a thread of its own keeps the connection."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from anyio.from_thread import start_blocking_portal

from microblog_rt.client.api import Item
from microblog_rt.client.client import Client
from microblog_rt.client.errors import Rejected
from microblog_rt.client.events import Notification
from microblog_rt.client.link import Token


class SyncClient:
    """Like `Client`, with the same arguments; a function for the token is called in the thread of the connection.

    >>> with SyncClient(url, token) as client:
    ...     sent = client.send("bob", "hello")
    ...     client.publish("bob", "build", {"passed": True})
    """

    def __init__(self, url: str, token: Token | None = None, **options: Any) -> None:
        self._client = Client(url, token, **options)
        self._stack = ExitStack()

    @property
    def cursor(self) -> float:
        """See `Client.cursor`."""
        return self._client.cursor

    def notifications(self, since: float | None = None, names: Sequence[str] = ()) -> Iterator[Notification]:
        """See `Client.notifications`."""
        subscription = self._call(self._subscribe, since, names)
        try:
            while True:
                try:
                    yield self._call(subscription.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            with suppress(RuntimeError):  # the client was closed before
                self._call(subscription.aclose)

    def send(self, recipient: str, body: str, *, key: str | None = None) -> dict[str, Any]:
        """See `Client.send`."""
        sent: dict[str, Any] = self._call(partial(self._client.send, recipient, body, key=key))
        return sent

    def mark_read(self, up_to: float | None = None, *, first: float | None = None) -> None:
        """See `Client.mark_read`."""
        self._call(partial(self._client.mark_read, up_to, first=first))

    def publish(self, user: str, key: str, data: Any, *, idempotency_key: str | None = None) -> None:
        """See `Client.publish`."""
        self._call(partial(self._client.publish, user, key, data, idempotency_key=idempotency_key))

    def publish_many(self, items: Iterable[Item], *, idempotency_key: str | None = None) -> list[Rejected | None]:
        """See `Client.publish_many`."""
        publish = partial(self._client.publish_many, list(items), idempotency_key=idempotency_key)
        results: list[Rejected | None] = self._call(publish)
        return results

    def get(self, path: str) -> Any:
        """See `Client.get`."""
        return self._call(self._client.get, path)

    def __enter__(self) -> Self:
        self._portal = self._stack.enter_context(start_blocking_portal())
        self._stack.enter_context(self._portal.wrap_async_context_manager(self._client))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._stack.close()

    async def _subscribe(self, since: float | None, names: Sequence[str]) -> Any:
        return self._client.notifications(since, names)

    def _call(self, function: Any, *arguments: Any) -> Any:
        return self._portal.call(function, *arguments)

"""``Client``: subscribe to the notifications of one user, send messages, publish notifications."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from microblog_rt.client.api import Api, Item
from microblog_rt.client.errors import Rejected
from microblog_rt.client.events import BEST_FIRST, POLL, Status
from microblog_rt.client.link import Link, Token
from microblog_rt.client.probe import Probed, probe
from microblog_rt.client.state import Machine
from microblog_rt.client.subscription import Subscription, milliseconds


class Client:
    """A client of the server at ``url``, with a bearer token, or with the cookies or headers of a session.

    ``token``: a string; or a function that returns one and is called before each request, for tokens that expire. It
    may be asynchronous; its exceptions are raised. ``transports``: those to use, best first; the poll is always the
    last resort. ``timeout``: for how many seconds ``send``, ``mark_read`` and ``publish`` repeat a request that gets no
    response. ``connect_timeout``: after how many seconds without a response a subscription raises Unreachable at its
    start (None: never). ``on_status`` is called with each change of the connection.

    Use it as an asynchronous context manager, in one event loop.
    """

    def __init__(
        self,
        url: str,
        token: Token | None = None,
        *,
        cookies: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        transports: Sequence[str] = BEST_FIRST,
        timeout: float = 60.0,
        connect_timeout: float | None = None,
        on_status: Callable[[Status], None] | None = None,
    ) -> None:
        if not transports or not set(transports) <= set(BEST_FIRST):
            raise ValueError(f"transports must be some of {', '.join(BEST_FIRST)}")
        self._transports = [each for each in transports if each != POLL] + [POLL]
        self._connect_timeout = connect_timeout
        self._on_status = on_status
        self._link = Link(url, token, cookies, headers)
        self._api = Api(self._link, timeout)
        self._subscription: Subscription | None = None
        self._since = 0.0
        self._status = Status(False)

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._link.url

    @property
    def cursor(self) -> float:
        """Where to go on tomorrow: pass it as ``since``. The loop has received everything up to this timestamp."""
        return self._subscription.cursor if self._subscription else self._since

    @property
    def status(self) -> Status:
        """The state of the connection."""
        return self._status

    def notifications(self, since: float | None = None, names: Sequence[str] = ()) -> Subscription:
        """The notifications newer than the cursor ``since``, and then each new one; by default from ``cursor`` on.

        With ``since=0`` the first ones are the latest of every name; ``names`` selects some. There is one subscription
        at a time: a second call closes the first, and a cursor is valid for the names it was obtained with. The
        iteration raises SignedOut or Forbidden when the session has ended; it survives everything else.
        """
        self._since = self.cursor if since is None else since
        machine = Machine(self._since, self._transports, now=milliseconds())
        self._subscription = Subscription(
            machine, self._link, self._since, names, self._changed, self._connect_timeout, before=self._subscription
        )
        return self._subscription

    async def send(self, recipient: str, body: str, *, key: str | None = None) -> dict[str, Any]:
        """Send a message of 1 to 140 characters; return the response.

        A request without a response is repeated with the same Idempotency-Key: ``key``, or a new one. Raises a
        ClientError.
        """
        return await self._api.send(recipient, body, key)

    async def mark_read(self, up_to: float | None = None, *, first: float | None = None) -> None:
        """Mark the messages with the timestamps ``first`` to ``up_to`` as read, by default all. Raises a ClientError.

        A subscription returns the new count at once.
        """
        merged = await self._api.mark_read(first, up_to)
        if self._subscription is not None:
            self._subscription.merge(merged)

    async def publish(self, user: str, key: str, data: Any, *, idempotency_key: str | None = None) -> None:
        """Replace the notification ``key`` of ``user`` by ``data``, any JSON value. Raises a ClientError."""
        await self._api.publish(user, key, data, idempotency_key)

    async def publish_many(self, items: Iterable[Item], *, idempotency_key: str | None = None) -> list[Rejected | None]:
        """Publish (user, key, data) for each item; for each, None or why it was refused. Raises a ClientError.

        A call with the same items and ``idempotency_key`` publishes what was refused or not carried out before.
        """
        return await self._api.publish_many(items, idempotency_key)

    async def probe(self, transport: str) -> Probed:
        """Try one transport alone: whether it works from this network, and if not, why."""
        return await probe(self._link, transport)

    async def get(self, path: str) -> Any:
        """The JSON of a resource below ``/api/v1``, such as ``/sessions``. Raises a ClientError."""
        return await self._api.get(path)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._subscription is not None:
            self._since = self._subscription.cursor
            await self._subscription.aclose()
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await self.aclose()

    def _changed(self, status: Status) -> None:
        self._status = status
        if self._on_status is not None:
            self._on_status(status)

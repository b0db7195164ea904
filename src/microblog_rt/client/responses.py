"""HTTP responses and close codes, as the state machine needs them."""

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from microblog_rt.client.connection import Operations
from microblog_rt.client.events import Failed, Notification, OperationEvent, Reason, Response, parse
from microblog_rt.client.timers import LONGEST_WAIT, Timer

POLL_AFTER = 5_000.0
REFUSALS = {
    "signed_out": 401,
    "subject_invalid": 401,
    "subject_taken": 401,
    "forbidden": 403,
}  # by the code of the problem


class Answer(NamedTuple):
    """A valid response with the status 200, or the reason why there is none; ``poll_after`` in ms."""

    reason: Reason
    notifications: list[Notification]
    poll_after: float


class Request:
    """One HTTP request. ``on_answer`` is called once, and not after ``close``; ``timeout`` in ms."""

    def __init__(
        self,
        operations: Operations,
        transport: str,
        since: float,
        timeout: float,
        on_answer: Callable[[Answer], None],
        hold: int | None = None,
    ) -> None:
        self._operations = operations
        self._on_answer = on_answer
        self._timer = Timer(operations.clock)
        self._id = operations.open(transport, since, self._event, hold)
        late = Reason(detail=f"no response within {timeout / 1000:g} s")
        self._timer.set(timeout, lambda: self._finish(Answer(late, [], 0)))

    def close(self) -> None:
        self._timer.clear()
        self._operations.close(self._id)

    def _event(self, event: OperationEvent) -> None:
        match event:
            case Response():
                self._finish(_answer(event))
            case Failed():
                self._finish(Answer(Reason(detail=event.error), [], 0))

    def _finish(self, answer: Answer) -> None:
        self.close()
        self._on_answer(answer)


def _answer(response: Response) -> Answer:
    if response.status != 200:
        return Answer(refusal_reason(response), [], 0)
    try:
        notifications = parse(response.body)
    except ValueError:
        notifications = None
    if notifications is None:
        return Answer(Reason(detail="the response is not an array of notifications"), [], 0)
    return Answer(Reason(200), notifications, milliseconds(response.headers, "poll-after") or POLL_AFTER)


def refusal_reason(response: Response) -> Reason:
    """Why a request was refused. A 401 or 403 that is not the application's own, as of a proxy, has the status 0."""
    code, detail = problem(response.headers, response.body)
    status = response.status
    if status in REFUSALS.values() and REFUSALS.get(code) != status:
        status = 0
    return Reason(status, milliseconds(response.headers, "retry-after"), detail=detail or f"HTTP {response.status}")


def close_reason(code: int, reason: str) -> Reason:
    """Map a close code to an HTTP status: 4000 + status. The reason of 4503 is the time to wait in ms.

    >>> close_reason(4503, "1500")
    Reason(status=503, wait=1500.0, restarts=False, timed_out=False, detail='closed with 4503')
    >>> close_reason(1012, "30000").restarts
    True
    """
    detail = f"closed with {code}"
    if code == 4503:
        return Reason(503, float(reason) if re.fullmatch(r"\d{1,9}", reason) else 0.0, detail=detail)
    if code == 1012:
        return Reason(503, restarts=True, detail=detail)
    return Reason(code - 4000 if 4400 <= code < 4600 else 0, detail=detail)


def problem(headers: Mapping[str, str], body: str) -> tuple[str, str]:
    """The ``code`` and the ``detail`` of a response in problem+json; empty for any other."""
    if not headers.get("content-type", "").startswith("application/problem+json"):
        return "", ""
    try:
        content = json.loads(body)
        return str(content["code"]), str(content.get("detail", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        return "", ""


def milliseconds(headers: Mapping[str, str], name: str) -> float:
    """A header in seconds, at most 5 minutes; 0 without a valid one."""
    try:
        seconds = float(headers.get(name, ""))
    except ValueError:
        return 0.0
    return min(seconds * 1000, LONGEST_WAIT) if seconds > 0 else 0.0

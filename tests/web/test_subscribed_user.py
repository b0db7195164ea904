"""A client is subscribed to its session's user, whatever its query says."""

import pytest

from microblog_rt.hub import Hub, Subscriber
from microblog_rt.services import Services
from tests.web.conftest import Join

SUSAN, JOHN = 1, 2
QUERIES = ["user", "user=1&user", "user_id", "recipient", "channel", "name", "since"]


@pytest.fixture
def subscribed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The user ids subscribed to so far."""
    users: list[int] = []
    real = Hub.add

    def add(hub: Hub, subscriber: Subscriber) -> None:
        users.append(subscriber.user_id)
        real(hub, subscriber)

    monkeypatch.setattr(Hub, "add", add)
    return users


async def test_only_the_session_selects_the_subscribed_user(
    services: Services, join: Join, subscribed: list[int]
) -> None:
    susan, _ = await join("susan"), await join("john")
    await services.messages.send_message(SUSAN, JOHN, "not for susan")
    for query in QUERIES:
        answer = await susan.get(f"/notifications?wait=0.01&{query}={JOHN}")
        assert answer.status_code in (200, 401), query
    assert set(subscribed) == {SUSAN}

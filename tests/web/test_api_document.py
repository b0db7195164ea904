"""``docs/openapi.yaml`` for the API: the served document is the same, and every example in it works."""

import json
from typing import Any

import httpx
import pytest
from quart import Quart

from microblog_rt import files
from microblog_rt.models import SCOPES
from microblog_rt.services import Services
from tests.conftest import PASSWORD
from tests.openapi_document import document
from tests.web.conftest import ORIGIN

DOCUMENT = json.loads(document())
OPERATIONS = [
    (method, path)
    for path, operations in DOCUMENT["paths"].items()
    for method in operations
    if path.startswith("/api/") and method in ("get", "put", "post", "delete")
]


def test_served_document_is_that_of_the_repository() -> None:
    """If not: ``python -m tests.openapi_document``."""
    assert files.OPENAPI.read_text() == document()


async def test_document_is_served(app: Quart) -> None:
    answer = await app.test_client().get("/openapi.json")
    assert answer.content_type == "application/json"
    assert json.loads(await answer.get_data()) == DOCUMENT


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_documented_example_works(app: Quart, services: Services, method: str, path: str) -> None:
    """The request of the example gets the response of the example, apart from times and ids."""
    susan = await services.accounts.register("susan", PASSWORD)
    bob = await services.accounts.register("bob", PASSWORD)
    await services.notifications.add_notification(bob.id, "build", 1)
    await services.messages.send_message(susan.id, bob.id, "hello")
    caller, scopes = (bob, [SCOPES[1]]) if method == "get" else (susan, SCOPES)
    token = await services.tokens.add(caller, "test", scopes)
    operation = DOCUMENT["paths"][path][method]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        url = path.format(name="bob", key="build")
        answer = await client.request(method, url, json=content, headers={"Authorization": f"Bearer {token}"})
    (status,) = [each for each in operation["responses"] if each.startswith("2")]
    assert answer.status_code == int(status), answer.text
    assert same(answer.json()) == same(operation["responses"][status]["content"]["application/json"]["example"])


def same(value: Any, name: str = "") -> Any:
    """``value`` without what differs between two servers."""
    if isinstance(value, dict):
        return {key: same(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [same(each) for each in value]
    varies = name == "id" or (isinstance(value, float) or name == "last_used")
    return "..." if varies else value

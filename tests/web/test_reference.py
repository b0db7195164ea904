"""The page with the reference of the API."""

import json

from microblog_rt import files
from tests.web.conftest import ORIGIN, Browser, text


async def test_reference_lists_every_operation(stranger: Browser) -> None:
    page = await text(await stranger.get("/docs"))
    document = json.loads(files.OPENAPI.read_bytes())
    methods = ("get", "post", "put", "delete")
    operations = [(method, path) for path, item in document["paths"].items() for method in methods if method in item]
    assert len(operations) >= 20
    for method, path in operations:
        assert f"<code>{method.upper()} {path}</code>" in page
    assert "Idempotency-Key" in page
    assert "&#34;recipient&#34;: &#34;bob&#34;" in page, "the example of a request"
    assert f"{ORIGIN}/api/v1/messages" in page, "a first command"
    assert 'href="/auth/tokens"' in page
    assert "$ref" not in page
    assert "`" not in page
    assert "**" not in page

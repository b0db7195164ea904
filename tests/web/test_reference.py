"""The page with the reference of the API."""

import json
import re

from microblog_rt import files
from microblog_rt.web.api import PREFIX, ROUTES
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
    assert not re.search(r"[\s>]\*\w", page), "emphasis"


async def test_reference_describes_every_parameter_and_scope(stranger: Browser) -> None:
    page = await text(await stranger.get("/docs"))
    assert not re.search(r"<dd>\s*</dd>", page)
    sections = {each.split('"', 1)[0]: each for each in page.split('<section aria-labelledby="')[1:]}
    document = json.loads(files.OPENAPI.read_bytes())
    for path, item in document["paths"].items():
        for method in {"get", "post", "put", "delete"} & item.keys():
            section = sections[item[method]["operationId"]]
            for each in re.findall(r"{(\w+)}", path):
                assert f"<dt><code>{each}</code></dt>" in section, (method, path)
    for route in ROUTES:
        section = sections[document["paths"][PREFIX + route.path][route.method.lower()]["operationId"]]
        assert f"<code>{route.scope}</code>" in section or (route.scope is None and "any scope" in section), route

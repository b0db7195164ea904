"""The page ``/docs``: a reference of the API, made from the document that ``/openapi.json`` serves."""

import json
import re
from functools import cache
from typing import Any, NamedTuple

from markupsafe import Markup, escape
from quart import Blueprint, current_app, request
from quart.typing import ResponseReturnValue

from microblog_rt import files
from microblog_rt.web.templates import render_template

blueprint = Blueprint("reference", __name__)

METHODS = ("get", "post", "put", "delete")
CODE, STRONG = re.compile("`([^`]+)`"), re.compile(r"\*\*([^*]+)\*\*")

PARAGRAPHS = re.compile(r"\n\n|\n(?=[0-9]\. )")  # the items of a list as well

Object = dict[str, Any]


class Operation(NamedTuple):
    """An operation, ready for the page. Of ``parameters`` and ``responses`` each has a name and a text."""

    id: str
    method: str
    path: str
    summary: Markup
    description: list[Markup]
    parameters: list[tuple[str, Markup]]
    request: str
    responses: list[tuple[str, Markup]]
    answer: str


@blueprint.get("/docs")
async def reference() -> ResponseReturnValue:
    about, operations = _reference()
    origin = current_app.config["PUBLIC_URL"] or request.host_url.rstrip("/")
    return await render_template("reference.html", about=about, operations=operations, origin=origin)


@cache
def _reference() -> tuple[list[Markup], list[Operation]]:
    document: Object = json.loads(files.OPENAPI.read_bytes())
    operations = [
        _operation(document, method, path, item)
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]
    # The API first: the other operations are those of the pages and for the operator.
    return _paragraphs(document["info"]["description"]), sorted(operations, key=lambda each: "/api/" not in each.path)


def _operation(document: Object, method: str, path: str, item: Object) -> Operation:
    found = item[method]
    both = (item, found)  # what applies to every method of the path comes first
    parameters = [_resolved(document, each) for part in both for each in part.get("parameters", [])]
    responses = {status: _resolved(document, each) for status, each in found["responses"].items()}
    first = next(iter(responses.values()))
    return Operation(
        found["operationId"],
        method.upper(),
        path,
        _inline(found["summary"]),
        [each for part in both for each in _paragraphs(part.get("description", ""))],
        [(each["name"], _inline(each.get("description", ""))) for each in parameters],
        _example(document, found.get("requestBody", {})),
        [(status, _inline(each["description"])) for status, each in responses.items()],
        _example(document, first),
    )


def _resolved(document: Object, found: Object) -> Object:
    """The object that ``$ref`` names, with what stands beside it."""
    if "$ref" not in found:
        return found
    target: Any = document
    for name in found["$ref"].removeprefix("#/").split("/"):
        target = target[name]
    return {**target, **{name: value for name, value in found.items() if name != "$ref"}}


def _example(document: Object, found: Object) -> str:
    """The example of a body, as JSON or text; empty if there is none."""
    for content in _resolved(document, found).get("content", {}).values():
        examples = [each["value"] for each in content.get("examples", {}).values() if "value" in each]
        for example in [content["example"]] if "example" in content else examples:
            return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
    return ""


def _paragraphs(text: str) -> list[Markup]:
    return [_inline(each) for each in PARAGRAPHS.split(text.strip()) if each]


def _inline(text: str) -> Markup:
    """Text with the two kinds of Markdown that the document uses."""
    marked = CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(STRONG.sub(r"<strong>\1</strong>", marked))  # noqa: S704  # escaped above

"""The form in the footer of every page, which chooses the language and the theme."""

from http import HTTPStatus
from urllib.parse import quote

from quart import Blueprint, Quart, redirect, request, url_for
from quart.typing import ResponseReturnValue

from microblog_rt.errors import BadRequest
from microblog_rt.web.auth import is_local
from microblog_rt.web.forms import any_owner
from microblog_rt.web.preferences import LANGUAGES, choose

blueprint = Blueprint("footer", __name__)

PLACE = "preferences"  # the id of the form, to which the browser returns


def init(app: Quart) -> None:
    """Give templates what the footer shows."""
    app.jinja_env.globals.update(LANGUAGES=LANGUAGES, this_page=_this_page)


@blueprint.post("/preferences")
@any_owner
async def set_preferences() -> ResponseReturnValue:
    form = await request.form
    try:
        choose(form.get("language", ""), form.get("theme", ""))
    except ValueError:
        raise BadRequest from None
    target = form.get("next", "")
    page = target if is_local(target) else url_for("people.index")
    return redirect(f"{page.partition('#')[0]}#{PLACE}", HTTPStatus.SEE_OTHER)


def _this_page() -> str:
    """The path and query of the page that is rendered; "" if a GET would not show it."""
    rule = request.url_rule
    readable = request.method == "GET" if rule is None else "GET" in (rule.methods or ())
    query = request.query_string.decode("latin-1")
    return quote(request.root_path + request.path) + (f"?{query}" if query else "") if readable else ""

"""The home page and the profiles."""

from quart import Blueprint
from quart.typing import ResponseReturnValue

from microblog_rt.web.authentication import current_user, signed_in
from microblog_rt.web.context import page_key, page_links, services
from microblog_rt.web.templates import render_template

blueprint = Blueprint("people", __name__)

PAGE_SIZE = 25


@blueprint.get("/")
async def index() -> ResponseReturnValue:
    if not current_user().signed_in:
        return await render_template("index.html")
    page = await services().accounts.people(PAGE_SIZE, **page_key(str))
    links = page_links(page, lambda person: person.username_key)
    return await render_template("people.html", people=page.rows, **links)


@blueprint.get("/user/<username>")
@signed_in
async def user(username: str) -> ResponseReturnValue:
    person = await services().accounts.known(username)
    return await render_template("user.html", person=person, own=person.id == current_user().id)

"""The home page and the profiles."""

from quart import Blueprint, render_template, request, url_for
from quart.typing import ResponseReturnValue

from microblog_rt.errors import NotFound
from microblog_rt.models import User
from microblog_rt.web.authentication import current_user, signed_in
from microblog_rt.web.context import check_page, page_number, services

blueprint = Blueprint("people", __name__)

PAGE_SIZE = 25


@blueprint.get("/")
async def index() -> ResponseReturnValue:
    if not current_user().signed_in:
        return await render_template("index.html")
    page = page_number(request.args)
    people, more = await services().accounts.people(page, PAGE_SIZE)
    check_page(page, people)
    return await render_template(
        "people.html",
        people=people,
        page=page,
        previous_url=url_for(".index", page=page - 1) if page > 1 else None,
        next_url=url_for(".index", page=page + 1) if more else None,
    )


@blueprint.get("/user/<username>")
@signed_in
async def user(username: str) -> ResponseReturnValue:
    person = await find_user(username)
    return await render_template("user.html", person=person, own=person.id == current_user().user.id)


async def find_user(username: str) -> User:
    """The user of that name; raises NotFound."""
    person = await services().accounts.find(username)
    if person is None:
        raise NotFound("unknown_user", name=username)
    return person

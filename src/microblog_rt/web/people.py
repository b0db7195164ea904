"""The start page and profiles. Not here: accounts themselves."""

from quart import Blueprint, render_template, request, url_for
from quart.typing import ResponseReturnValue

from microblog_rt.errors import N_, NotFound
from microblog_rt.models import User
from microblog_rt.web import paging
from microblog_rt.web.authentication import current_user, signed_in
from microblog_rt.web.context import services

blueprint = Blueprint("people", __name__)

PAGE_SIZE = 25


@blueprint.get("/")
async def index() -> ResponseReturnValue:
    if not current_user().signed_in:
        return await render_template("index.html")
    page = paging.number(request.args)
    people, more = await services().accounts.people(page, PAGE_SIZE)
    paging.check(page, people)
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
    person = await known(username)
    return await render_template("user.html", person=person, own=person.id == current_user().user.id)


async def known(username: str) -> User:
    """The user of that name; raises NotFound."""
    person = await services().accounts.find(username)
    if person is None:
        raise NotFound(N_("There is no user called %(name)s."), name=username)
    return person

"""The page of mentions."""

from http import HTTPStatus

from quart import Blueprint, Response, redirect, url_for
from quart.typing import ResponseReturnValue

from microblog_rt import protocol
from microblog_rt.web.authentication import current_user, signed_in
from microblog_rt.web.context import interval, page_key, page_links, services
from microblog_rt.web.flashes import flash
from microblog_rt.web.languages import gettext
from microblog_rt.web.people import PAGE_SIZE
from microblog_rt.web.problems import JSON, wants_json
from microblog_rt.web.templates import render_template

blueprint = Blueprint("mentions", __name__)


@blueprint.get("/mentions")
@signed_in
async def mentions() -> ResponseReturnValue:
    key = page_key(protocol.parse_cursor)
    page = await services().posts.mentions(current_user().id, PAGE_SIZE, **key)
    links = page_links(page, lambda each: protocol.seconds(each.timestamp), previous="after", next="before")
    newest = None if page.previous else page.rows[0].timestamp if page.rows else key.get("after", 0)
    mentioned = await services().posts.names_in([each.post.body for each in page.rows])
    return await render_template(
        "mentions.html",
        mentions=page.rows,
        mentioned=mentioned,
        newest=newest,
        first_page=not key,
        seconds=protocol.seconds,
        **links,
    )


@blueprint.post("/mentions/read")
@signed_in
async def read() -> ResponseReturnValue:
    first, last = await interval()
    notification = await services().posts.mark_read(current_user().id, first=first, last=last)
    if wants_json():
        return Response(protocol.frame([notification]), content_type=JSON)
    flash(gettext("Marked as read."), "success")
    return redirect(url_for(".mentions"), HTTPStatus.SEE_OTHER)

"""The page of the user's sessions, where one or all of them can be ended."""

from http import HTTPStatus
from typing import NamedTuple

from quart import redirect, render_template, request, session, url_for
from quart.typing import ResponseReturnValue

from microblog_rt import protocol
from microblog_rt.accounts import Reader, session_name
from microblog_rt.models import Session
from microblog_rt.web import devices
from microblog_rt.web.auth import blueprint, logout
from microblog_rt.web.authentication import authentication, current_reader, current_user, signed_in
from microblog_rt.web.context import page_key, page_links, services
from microblog_rt.web.forms import flash_once
from microblog_rt.web.languages import gettext

PAGE_SIZE = 25


class SessionRow(NamedTuple):
    """A session as the page shows it."""

    name: str
    device: str
    created: int
    last_used: int
    current: bool


@blueprint.get("/sessions")
@signed_in
async def sessions() -> ResponseReturnValue:
    reader = current_reader()
    key = page_key(protocol.parse_cursor)
    page = await services().sessions.sessions(reader, PAGE_SIZE, **key)
    visit = current_user().visit
    own = [visit.session] if visit and not page.previous else []
    links = page_links(page, lambda session: protocol.seconds(session.created), previous="after", next="before")
    return await render_template("sessions.html", sessions=[_row(each, reader) for each in [*own, *page.rows]], **links)


@blueprint.post("/sessions/end")
@signed_in
async def end_session() -> ResponseReturnValue:
    reader = current_reader()
    name = (await request.form).get("session", "")
    if name == session_name(reader.token_hash):
        return await logout()
    await services().sessions.end_session_named(reader.user_id, name)
    await flash_once(gettext("The session has been ended."), "success")
    return redirect(url_for(".sessions"), HTTPStatus.SEE_OTHER)


@blueprint.post("/logout_everywhere")
@signed_in
async def logout_everywhere() -> ResponseReturnValue:
    await authentication().sign_out_everywhere()
    session.clear()
    await flash_once(gettext("All your sessions have been signed out."), "success")
    return redirect(url_for("people.index"), HTTPStatus.SEE_OTHER)


def _row(each: Session, reader: Reader) -> SessionRow:
    return SessionRow(
        name=session_name(each.token_hash),
        device=devices.describe(each.device, gettext),
        created=each.created,
        last_used=each.last_used,
        current=each.token_hash == reader.token_hash,
    )

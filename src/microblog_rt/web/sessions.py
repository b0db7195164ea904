"""The page of the user's sessions, where one or all of them can be ended, with the current password."""

from http import HTTPStatus
from typing import NamedTuple

from quart import redirect, request, url_for
from quart.typing import ResponseReturnValue
from wtforms import Form, PasswordField, SubmitField

from microblog_rt import protocol
from microblog_rt.accounts import Reader, session_name
from microblog_rt.errors import Invalid, TooMany
from microblog_rt.models import Session
from microblog_rt.web import devices
from microblog_rt.web.auth import OLD_PASSWORD, blueprint, logout
from microblog_rt.web.authentication import authentication, current_reader, current_user, signed_in
from microblog_rt.web.context import page_key, page_links, services
from microblog_rt.web.flashes import flash, forget_flashes
from microblog_rt.web.forms import add_error, bind_form, render_form, submitted
from microblog_rt.web.languages import gettext, lazy
from microblog_rt.web.sentences import N_
from microblog_rt.web.templates import render_template

PAGE_SIZE = 25


class EndForm(Form):
    old_password = PasswordField(lazy(N_("Current password")), render_kw=OLD_PASSWORD)
    submit = SubmitField(lazy(N_("Sign out")))


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


@blueprint.route("/sessions/end", methods=["GET", "POST"])
@signed_in
async def end_session() -> ResponseReturnValue:
    reader = current_reader()
    name = (await request.form).get("session") or request.args.get("session", "")
    if name == session_name(reader.token_hash):
        return await logout() if request.method == "POST" else redirect(url_for(".sessions"))
    ending = await services().sessions.named(reader.user_id, name)
    if ending is None:
        return redirect(url_for(".sessions"), HTTPStatus.SEE_OTHER)
    form = await bind_form(EndForm)
    if await _confirmed(form):
        await services().sessions.end_session_named(reader.user_id, name)
        flash(gettext("The session has been ended."), "success")
        return redirect(url_for(".sessions"), HTTPStatus.SEE_OTHER)
    return await render_form("end_session.html", form, session=_row(ending, reader))


@blueprint.route("/logout_everywhere", methods=["GET", "POST"])
@signed_in
async def logout_everywhere() -> ResponseReturnValue:
    form = await bind_form(EndForm)
    if await _confirmed(form):
        await authentication().sign_out_everywhere()
        forget_flashes()
        flash(gettext("All your sessions have been signed out."), "success")
        return redirect(url_for("people.index"), HTTPStatus.SEE_OTHER)
    return await render_form("end_session.html", form, session=None)


async def _confirmed(form: EndForm) -> bool:
    """Whether the form was submitted with the user's current password."""
    if not submitted(form):
        return False
    try:
        await authentication().reauthenticate(form.old_password.data or "")
    except (Invalid, TooMany) as error:
        add_error(form, error)
        return False
    return True


def _row(each: Session, reader: Reader) -> SessionRow:
    return SessionRow(
        name=session_name(each.token_hash),
        device=devices.describe(each.device, gettext),
        created=each.created,
        last_used=each.last_used,
        current=each.token_hash == reader.token_hash,
    )

"""The pages of private messages. Not here: sending and marking themselves (``messages.py`` a level up)."""

import re
import secrets
from http import HTTPStatus
from urllib.parse import urlsplit

from quart import Blueprint, Response, redirect, render_template, request, url_for
from quart.typing import ResponseReturnValue
from wtforms import Form, HiddenField, SubmitField, TextAreaField

from microblog_rt import protocol
from microblog_rt.errors import N_, BadRequest, Invalid, TooMany
from microblog_rt.web import drafts, paging
from microblog_rt.web.authentication import current_user, signed_in, way_in
from microblog_rt.web.context import services
from microblog_rt.web.forms import blame, filled, form_is_old, keeps_form, say, show, submitted
from microblog_rt.web.languages import gettext, lazy
from microblog_rt.web.people import known
from microblog_rt.web.problems import JSON, wants_json

blueprint = Blueprint("messages", __name__)

PAGE_SIZE = 25
PROGRAM_KEY = re.compile("[ -~]{1,255}")


class MessageForm(Form):
    message = TextAreaField(lazy(N_("Message")), render_kw={"rows": 3})
    nonce = HiddenField(default=lambda: secrets.token_urlsafe(12))
    submit = SubmitField(lazy(N_("Send")))


@blueprint.route("/send_message/<recipient>", methods=["GET", "POST"])
@keeps_form
async def send_message(recipient: str) -> ResponseReturnValue:
    form = await filled(MessageForm)
    visitor = current_user()
    if not visitor.signed_in:
        if visitor.reader and not form_is_old():
            drafts.keep(visitor.reader.user_id, recipient, form.message.data)
        return way_in(request.full_path)
    person = await known(recipient)
    if request.method == "GET":
        form.message.data = drafts.take(visitor.user.id, recipient)
    if submitted(form):
        program_key = _program_key()
        try:
            text, nonce = form.message.data or "", form.nonce.data or ""
            await services().messages.send_message(visitor.user.id, person.id, text, nonce, program_key)
            await say(gettext("Your message has been sent."), "success")
            return redirect(url_for("people.user", username=person.username), HTTPStatus.SEE_OTHER)
        except (Invalid, TooMany) as error:
            blame(form, error)
    return await show("send_message.html", form, person=person)


def _program_key() -> str:
    sent = request.headers.getlist("Idempotency-Key")
    if len(sent) > 1 or not all(PROGRAM_KEY.fullmatch(each) for each in sent):
        raise BadRequest(N_("Idempotency-Key is one value of 1 to 255 printable ASCII characters."))
    return sent[0] if sent else ""


@blueprint.get("/messages")
@signed_in
async def messages() -> ResponseReturnValue:
    page = paging.number(request.args)
    posts, more = await services().messages.inbox(current_user().user.id, page, PAGE_SIZE)
    paging.check(page, posts)
    return await render_template(
        "messages.html",
        posts=posts,
        page=page,
        newer_url=url_for(".messages", page=page - 1) if page > 1 else None,
        older_url=url_for(".messages", page=page + 1) if more else None,
        up_to=protocol.seconds(protocol.cursor_of(posts[0].timestamp)) if posts else "",
    )


@blueprint.post("/messages/read")
@signed_in
async def read() -> ResponseReturnValue:
    notification = await services().messages.mark_read(current_user().user.id, await _up_to())
    if wants_json():
        return Response(protocol.frame([notification]), content_type=JSON)
    return redirect(_back(), HTTPStatus.SEE_OTHER)


async def _up_to() -> int | None:
    sent = (await request.form).getlist("up_to")
    if not sent:
        return None
    try:
        (text,) = sent
        return protocol.parse_cursor(text)
    except ValueError:
        raise BadRequest(N_("up_to is one timestamp, in seconds, as notifications carry it.")) from None


def _back() -> str:
    try:
        came_from = urlsplit(request.referrer or "")
    except ValueError:
        came_from = urlsplit("")
    here = came_from.netloc == request.host and came_from.path == url_for(".messages")
    return f"{came_from.path}?{came_from.query}".rstrip("?") if here else url_for(".messages")

"""The pages of private messages."""

import re
import secrets
from http import HTTPStatus
from urllib.parse import urlsplit

from quart import Blueprint, Response, redirect, render_template, request, url_for
from quart.typing import ResponseReturnValue
from wtforms import Form, HiddenField, SubmitField, TextAreaField

from microblog_rt import protocol
from microblog_rt.errors import BadRequest, Invalid, TooMany
from microblog_rt.web import drafts
from microblog_rt.web.authentication import current_user, redirect_to_login, signed_in
from microblog_rt.web.context import check_page, page_number, services
from microblog_rt.web.forms import (
    add_error,
    bind_form,
    flash_once,
    form_expired,
    redisplays_form,
    render_form,
    submitted,
)
from microblog_rt.web.languages import gettext, lazy
from microblog_rt.web.people import find_user
from microblog_rt.web.problems import JSON, wants_json
from microblog_rt.web.sentences import N_

blueprint = Blueprint("messages", __name__)

PAGE_SIZE = 25
PROGRAM_KEY = re.compile("[ -~]{1,255}")


class MessageForm(Form):
    message = TextAreaField(lazy(N_("Message")), render_kw={"rows": 3})
    nonce = HiddenField(default=lambda: secrets.token_urlsafe(12))
    submit = SubmitField(lazy(N_("Send")))


@blueprint.route("/send_message/<recipient>", methods=["GET", "POST"])
@redisplays_form(nonce=None, message=lazy(N_("Your message")))
async def send_message(recipient: str) -> ResponseReturnValue:
    form = await bind_form(MessageForm)
    current = current_user()
    if not current.signed_in:
        if current.reader and not form_expired():
            drafts.keep(current.reader.user_id, recipient, form.message.data)
        return redirect_to_login(request.full_path)
    person = await find_user(recipient)
    if request.method == "GET":
        form.message.data = drafts.take(current.user.id, recipient)
    if submitted(form):
        program_key = _program_key()
        try:
            text, nonce = form.message.data or "", form.nonce.data or ""
            await services().messages.send_message(current.user.id, person.id, text, nonce, program_key)
            await flash_once(gettext("Your message has been sent."), "success")
            return redirect(url_for("people.user", username=person.username), HTTPStatus.SEE_OTHER)
        except (Invalid, TooMany) as error:
            add_error(form, error)
    return await render_form("send_message.html", form, person=person)


def _program_key() -> str:
    sent = request.headers.getlist("Idempotency-Key")
    if len(sent) > 1 or not all(PROGRAM_KEY.fullmatch(each) for each in sent):
        raise BadRequest("idempotency_key_format")
    return sent[0] if sent else ""


@blueprint.get("/messages")
@signed_in
async def messages() -> ResponseReturnValue:
    page = page_number(request.args)
    posts, more = await services().messages.inbox(current_user().user.id, page, PAGE_SIZE)
    check_page(page, posts)
    return await render_template(
        "messages.html",
        posts=posts,
        page=page,
        newer_url=url_for(".messages", page=page - 1) if page > 1 else None,
        older_url=url_for(".messages", page=page + 1) if more else None,
        up_to=protocol.seconds(posts[0].timestamp) if posts else "",
    )


@blueprint.post("/messages/read")
@signed_in
async def read() -> ResponseReturnValue:
    notification = await services().messages.mark_read(current_user().user.id, await _up_to())
    if wants_json():
        return Response(protocol.frame([notification]), content_type=JSON)
    await flash_once(gettext("Marked as read."), "success")
    return redirect(_back(), HTTPStatus.SEE_OTHER)


async def _up_to() -> int | None:
    sent = (await request.form).getlist("up_to")
    if not sent:
        return None
    try:
        (text,) = sent
        return protocol.parse_cursor(text)
    except ValueError:
        raise BadRequest("up_to_format") from None


def _back() -> str:
    try:
        referrer = urlsplit(request.referrer or "")
    except ValueError:
        referrer = urlsplit("")
    from_inbox = referrer.netloc == request.host and referrer.path == url_for(".messages")
    return f"{referrer.path}?{referrer.query}".rstrip("?") if from_inbox else url_for(".messages")

"""The pages of private messages."""

import re
import secrets
from http import HTTPStatus
from urllib.parse import urlsplit

from quart import Blueprint, Response, redirect, request, url_for
from quart.typing import ResponseReturnValue
from wtforms import Form, HiddenField, SubmitField, TextAreaField

from microblog_rt import protocol
from microblog_rt.errors import Invalid, SignedOut, TooMany
from microblog_rt.protocol import Notification
from microblog_rt.web.api.body import program_key
from microblog_rt.web.authentication import current_user, redirect_to_login, signed_in
from microblog_rt.web.context import interval, page_key, page_links, services
from microblog_rt.web.flashes import flash
from microblog_rt.web.forms import (
    add_error,
    bind_form,
    redisplays_form,
    refuse_form,
    render_form,
    submitted,
)
from microblog_rt.web.languages import gettext, lazy
from microblog_rt.web.problems import JSON, wants_json
from microblog_rt.web.sentences import N_
from microblog_rt.web.templates import render_template

blueprint = Blueprint("messages", __name__)

PAGE_SIZE = 25
NONCE = re.compile(r"[\w-]{1,64}", re.ASCII)
CONVERSATION = "conversation"
SENT = N_("Your message has been sent.")


class MessageForm(Form):
    message = TextAreaField(lazy(N_("Message")), render_kw={"rows": 5})
    nonce = HiddenField(default=lambda: secrets.token_urlsafe(12))
    back = HiddenField()  # "conversation": the page to return to; otherwise the recipient's profile
    submit = SubmitField(lazy(N_("Send")))


@blueprint.route("/send_message/<recipient>", methods=["GET", "POST"])
@redisplays_form(nonce=None, message=lazy(N_("Your message")))
async def send_message(recipient: str) -> ResponseReturnValue:
    form = await bind_form(MessageForm)
    current = current_user()
    if not current.signed_in:
        return await _signed_out(form, recipient)
    refusal: Invalid | TooMany | None = None
    if submitted(form):
        text, nonce, key = (
            form.message.data or "",
            form.nonce.data or "",
            program_key(request.headers.getlist("Idempotency-Key")),
        )
        try:
            name = await services().messages.send_to(current.id, recipient, text, nonce, key)
        except (Invalid, TooMany) as error:
            refusal = error
        else:
            await _flash_sent(name is not None)
            name = name or (await services().accounts.known(recipient)).username
            fragment = None if wants_json() else anchor(nonce)
            page = "messages.conversation" if form.back.data == CONVERSATION else "people.user"
            return redirect(url_for(page, username=name, _anchor=fragment), HTTPStatus.SEE_OTHER)
    person = await services().accounts.known(recipient)
    if refusal is not None:
        add_error(form, refusal)
    return await render_form("send_message.html", form, recipient=person.username, disabled=person.disabled)


async def _signed_out(form: MessageForm, recipient: str) -> ResponseReturnValue:
    """401 for a program; else the form again with its text, or the sign-in page if nothing was sent."""
    if wants_json():
        raise SignedOut
    if request.method != "POST":
        return redirect_to_login()
    refuse_form(SignedOut())
    submitted(form)
    return await render_form("send_message.html", form, recipient=recipient)


async def _flash_sent(new: bool) -> None:
    if new:
        flash(gettext(SENT), "success")
    else:
        flash(gettext("This message was already sent."), "info")


def anchor(nonce: str) -> str | None:
    """The fragment with which a page removes the sent message's draft (``static/rt/drafts.js``)."""
    return f"sent={nonce}" if NONCE.fullmatch(nonce) else None


async def inbox() -> ResponseReturnValue:
    """The page of received messages, newest first."""
    key = page_key(protocol.parse_cursor)
    page = await services().messages.inbox(current_user().id, PAGE_SIZE, **key)
    links = page_links(page, lambda post: protocol.seconds(post.timestamp), previous="after", next="before")
    newest = None if page.previous else page.rows[0].timestamp if page.rows else key.get("after", 0)
    # Once for each author: building an address takes as long as the rest of a row (measured).
    profiles = {name: url_for("people.user", username=name) for name in {post.author.username for post in page.rows}}
    replies = {name: url_for("messages.send_message", recipient=name) for name in profiles}
    return await render_template(
        "messages.html",
        posts=page.rows,
        newest=newest,
        first_page=not key,
        seconds=protocol.seconds,
        profiles=profiles,
        replies=replies,
        **links,
    )


@blueprint.post("/messages/read")
@signed_in
async def read() -> ResponseReturnValue:
    """Mark an interval as read: of all messages, or of those of one ``person``."""
    form, user_id = await request.form, current_user().id
    first, last = await interval()
    if "person" in form:
        person = await services().accounts.known(form["person"])
        count = await services().conversations.mark_read(user_id, person.id, first, last)
    else:
        count = await services().messages.mark_read(user_id, first=first, last=last)
    return marked(count, gettext("Marked as read."), _back())


def marked(count: Notification, sentence: str, back: str) -> ResponseReturnValue:
    """The response to a mark: the count for a program, else the page ``back`` with a sentence."""
    if wants_json():
        return Response(protocol.frame([count]), content_type=JSON)
    flash(sentence, "success")
    return redirect(back, HTTPStatus.SEE_OTHER)


def _back() -> str:
    """The page of messages from which a mark was sent; by default the list of conversations."""
    try:
        referrer = urlsplit(request.referrer or "")
    except ValueError:
        referrer = urlsplit("")
    pages = url_for(".messages")
    is_one = referrer.path == pages or referrer.path.startswith(f"{pages}/")
    return f"{referrer.path}?{referrer.query}".rstrip("?") if is_one and referrer.netloc == request.host else pages

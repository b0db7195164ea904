"""The pages of conversations: the list, the exchange with one person, and marks of what was shown of it."""

from typing import Any

from quart import request, url_for
from quart.typing import ResponseReturnValue

from microblog_rt import protocol
from microblog_rt.conversations import Newest
from microblog_rt.errors import BadRequest
from microblog_rt.web.authentication import current_user, signed_in
from microblog_rt.web.context import cursor_field, page_key, page_links, services
from microblog_rt.web.languages import gettext
from microblog_rt.web.messages import PAGE_SIZE, MessageForm, blueprint, inbox, marked
from microblog_rt.web.templates import render_template

LARGEST_KEY = 2**63 - 1


@blueprint.get("/messages")
@signed_in
async def messages() -> ResponseReturnValue:
    """The list of conversations; with the parameters of the tutorial's pages the received messages."""
    if {"before", "after", "list"} & request.args.keys():
        return await inbox()
    key = page_key(_parse_key, "older", "newer")
    conversations = services().conversations
    page = await conversations.of_user(current_user().id, PAGE_SIZE, before=key.get("older"), after=key.get("newer"))
    links = page_links(page, lambda each: str(each.key), previous="newer", next="older")
    return await render_template("conversations.html", conversations=page.rows, first_page=not key, **links)


@blueprint.get("/messages/<username>")
@signed_in
async def conversation(username: str) -> ResponseReturnValue:
    person = await services().accounts.known(username)
    user_id, conversations = current_user().id, services().conversations
    unread = await conversations.unread(user_id, person.id)
    newest = await conversations.newest(user_id, person.id)
    shown = {"person": person, "own_name": current_user().username, "unread": unread, "seconds": protocol.seconds}
    if {"received", "sent"} & request.args.keys():
        page = await conversations.news(user_id, person.id, PAGE_SIZE, _known())
        return await render_template("conversation.html", lines=page.rows, more=page.next, live=newest, **shown)
    key = page_key(_parse_key)
    page = await conversations.exchange(user_id, person.id, PAGE_SIZE, **key)
    links: dict[str, Any] = page_links(page, lambda line: str(line.key))
    live = None if page.next else newest
    form = MessageForm()
    return await render_template(
        "conversation.html", lines=page.rows, live=live, form=form, older_page=bool(key), **links, **shown
    )


def _known() -> Newest:
    """The query's ``received`` and ``sent``: the newest messages that the page has. Raises BadRequest."""
    try:
        (received,), (sent,) = request.args.getlist("received"), request.args.getlist("sent")
        return Newest(_parse_key(received), _parse_key(sent))
    except ValueError:
        raise BadRequest("page_key_format") from None


def _parse_key(text: str) -> int:
    """The key of a message or conversation. Raises ValueError."""
    if not (text.isascii() and text.isdecimal() and int(text[:20]) <= LARGEST_KEY and len(text) < 20):
        raise ValueError("not a key")
    return int(text)


@blueprint.post("/messages/unread")
@signed_in
async def unread() -> ResponseReturnValue:
    form = await request.form
    if not (form.get("from") and form.get("person")):
        raise BadRequest("mark_format", field="from" if form.get("person") else "person")
    first = await cursor_field("from", 0)
    person = await services().accounts.known(form["person"])
    count = await services().conversations.mark_unread(current_user().id, person.id, first)
    return marked(count, gettext("Marked as unread."), url_for("messages.messages"))

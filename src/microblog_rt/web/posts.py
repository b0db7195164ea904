"""The pages of posts: home, explore, and a post with its replies."""

import secrets
from http import HTTPStatus
from typing import Any

from quart import Response, redirect, request, url_for
from quart.typing import ResponseReturnValue
from wtforms import Form, HiddenField, SubmitField, TextAreaField

from microblog_rt import protocol
from microblog_rt.errors import BadRequest, Invalid, SignedOut, TooMany
from microblog_rt.models import Post
from microblog_rt.storage.pages import Page
from microblog_rt.web.authentication import current_user, redirect_to_login, signed_in
from microblog_rt.web.context import page_key, page_links, post_id, services
from microblog_rt.web.flashes import flash
from microblog_rt.web.forms import add_error, bind_form, redisplays_form, refuse_form, render_form, submitted
from microblog_rt.web.languages import gettext, lazy
from microblog_rt.web.messages import anchor
from microblog_rt.web.people import PAGE_SIZE, blueprint
from microblog_rt.web.problems import JSON, wants_json
from microblog_rt.web.sentences import N_
from microblog_rt.web.templates import render_template


class PostForm(Form):
    # The id of the field that send_form.js and counter.js work with.
    post = TextAreaField(lazy(N_("Your post")), id="message", render_kw={"rows": 3})
    nonce = HiddenField(default=lambda: secrets.token_urlsafe(12))
    submit = SubmitField(lazy(N_("Post")))


@blueprint.route("/index", methods=["GET", "POST"])
@blueprint.route("/", methods=["GET", "POST"])
@redisplays_form(nonce=None, post=lazy(N_("Your post")))
async def index() -> ResponseReturnValue:
    current, form = current_user(), await bind_form(PostForm)
    if request.method == "GET" and not current.signed_in:
        return await render_template("index.html")
    answer = await _posted(form)
    if answer is not None:
        return answer
    key = page_key(post_id)
    page = await services().posts.home(current.id, PAGE_SIZE, **key)
    unseen = None if key else await services().posts.newest_unseen(current.id, page.rows)
    return await render_form("home.html", form, first_page=not key, unseen=unseen, **await _shown(page))


@blueprint.post("/posts/seen")
@signed_in
async def seen() -> ResponseReturnValue:
    """Mark the posts that the home page has shown, up to the id ``up_to``."""
    try:
        (up_to,) = (await request.form).getlist("up_to")
        newest = post_id(up_to)
    except ValueError:
        raise BadRequest("seen_format") from None
    notification = await services().posts.see(current_user().id, newest)
    if wants_json():
        return Response(protocol.frame([notification]), content_type=JSON)
    return redirect(url_for(".index"), HTTPStatus.SEE_OTHER)


@blueprint.get("/explore")
@signed_in
async def explore() -> ResponseReturnValue:
    page = await services().posts.explore(PAGE_SIZE, **page_key(post_id))
    return await render_template("explore.html", **await _shown(page))


@blueprint.route("/post/<int(max=999999999999999999):number>", methods=["GET", "POST"])
@redisplays_form(nonce=None, post=lazy(N_("Your post")))
async def post(number: int) -> ResponseReturnValue:
    form = await bind_form(PostForm)
    if request.method == "GET" and not current_user().signed_in:
        if wants_json():
            raise SignedOut
        return redirect_to_login()
    answer = await _posted(form, number)
    if answer is not None:
        return answer
    the_post, page = await services().posts.replies(number, PAGE_SIZE, **page_key(post_id))
    shown = await _shown(page, the_post)
    return await render_form("post.html", form, post=the_post, **shown)


async def _posted(form: PostForm, reply_to_id: int | None = None) -> ResponseReturnValue | None:
    """What follows a post, or a form of a user who is signed out; None if the page with the form is to be shown."""
    if not current_user().signed_in:
        if wants_json():
            raise SignedOut
        refuse_form(SignedOut())
        submitted(form)
        return await render_form("write.html", form, reply_to_id=reply_to_id)
    if not submitted(form):
        return None
    nonce = form.nonce.data or ""
    try:
        new = await services().posts.post(current_user().id, form.post.data or "", nonce, reply_to_id)
    except (Invalid, TooMany) as error:
        add_error(form, error)
        return None
    flash(gettext("Your post has been published."), "success") if new else flash(
        gettext("This post was already published."), "info"
    )
    fragment = None if wants_json() else anchor(nonce)
    target = url_for(".index", _anchor=fragment) if reply_to_id is None else None
    return redirect(target or url_for(".post", number=reply_to_id, _anchor=fragment), HTTPStatus.SEE_OTHER)


async def _shown(page: Page[Post], *more: Post) -> dict[str, Any]:
    """What a template needs to show a page of posts."""
    mentioned = await services().posts.names_in([each.body for each in (*page.rows, *more)])
    links = page_links(page, lambda post: str(post.id), previous="after", next="before")
    return {"posts": page.rows, "mentioned": mentioned, **links}

"""The list of people and the profiles: follow, unfollow, and edit one's own.

See also: ``posts.py``, which adds the home page to this blueprint.
"""

from http import HTTPStatus
from typing import NamedTuple
from zlib import crc32

import regex
from quart import Blueprint, redirect, request, url_for
from quart.typing import ResponseReturnValue
from wtforms import Form, StringField, SubmitField, TextAreaField

from microblog_rt import names
from microblog_rt.errors import Invalid, SignedOut
from microblog_rt.web.authentication import current_user, redirect_to_login, signed_in
from microblog_rt.web.context import page_key, page_links, post_id, services
from microblog_rt.web.flashes import flash
from microblog_rt.web.forms import add_error, bind_form, redisplays_form, refuse_form, render_form, submitted
from microblog_rt.web.languages import gettext, lazy
from microblog_rt.web.problems import wants_json
from microblog_rt.web.sentences import N_
from microblog_rt.web.templates import render_template

blueprint = Blueprint("people", __name__)

PAGE_SIZE = 25
TONES = 8  # of microblog.css
FIRST_CHARACTER = regex.compile(r"\X")


class Avatar(NamedTuple):
    """What stands for a user's picture: a character on a colour, the number of a class of ``microblog.css``."""

    character: str
    tone: int


def avatar(username: str) -> Avatar:
    """The avatar of the user of that name."""
    return Avatar(FIRST_CHARACTER.findall(username)[0].upper(), crc32(names.key(username).encode()) % TONES)


class ProfileForm(Form):
    display_name = StringField(lazy(N_("Name")), render_kw={"autocomplete": "name"})
    about_me = TextAreaField(lazy(N_("About me")), render_kw={"rows": 3})
    submit = SubmitField(lazy(N_("Save")))


@blueprint.get("/people")
@signed_in
async def people() -> ResponseReturnValue:
    page = await services().accounts.people(PAGE_SIZE, **page_key(str))
    followed = await services().posts.followed(current_user().id, [each.id for each in page.rows])
    links = page_links(page, lambda person: person.username_key)
    return await render_template("people.html", people=page.rows, followed=followed, **links)


@blueprint.get("/user/<username>")
@signed_in
async def user(username: str) -> ResponseReturnValue:
    person = await services().accounts.known(username)
    reader_id = current_user().id
    profile = await services().posts.profile(person.id, reader_id)
    page = await services().posts.by_author(person.id, PAGE_SIZE, **page_key(post_id))
    mentioned = await services().posts.names_in([each.body for each in page.rows])
    links = page_links(page, lambda post: str(post.id), previous="after", next="before")
    return await render_template(
        "user.html",
        person=person,
        own=person.id == reader_id,
        profile=profile,
        posts=page.rows,
        mentioned=mentioned,
        **links,
    )


@blueprint.post("/follow/<username>")
@signed_in
async def follow(username: str) -> ResponseReturnValue:
    person = await services().accounts.known(username)
    await services().posts.follow(current_user().id, person)
    flash(gettext("You follow %(name)s now.", name=person.username), "success")
    return redirect(url_for(".user", username=person.username), HTTPStatus.SEE_OTHER)


@blueprint.post("/unfollow/<username>")
@signed_in
async def unfollow(username: str) -> ResponseReturnValue:
    person = await services().accounts.known(username)
    await services().posts.unfollow(current_user().id, person)
    flash(gettext("You do not follow %(name)s any more.", name=person.username), "success")
    return redirect(url_for(".user", username=person.username), HTTPStatus.SEE_OTHER)


@blueprint.route("/edit_profile", methods=["GET", "POST"])
@redisplays_form(display_name=lazy(N_("Name")), about_me=lazy(N_("About me")))
async def edit_profile() -> ResponseReturnValue:
    form = await bind_form(ProfileForm)
    if not current_user().signed_in:
        if wants_json():
            raise SignedOut
        if request.method == "GET":
            return redirect_to_login()
        refuse_form(SignedOut())
        submitted(form)
        return await render_form("edit_profile.html", form)
    user = current_user().user
    if submitted(form):
        try:
            said = form.display_name.data or "", form.about_me.data or ""
            await services().accounts.edit_profile(user.id, *said)
        except Invalid as error:
            add_error(form, error)
        else:
            flash(gettext("Your profile has been saved."), "success")
            return redirect(url_for(".user", username=user.username), HTTPStatus.SEE_OTHER)
    elif request.method == "GET":
        form = ProfileForm(display_name=user.display_name or "", about_me=user.about_me or "")
    return await render_form("edit_profile.html", form)

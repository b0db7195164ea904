"""The page of the user's access tokens, where they can be created, with the current password, and revoked."""

from http import HTTPStatus

from quart import redirect, request, url_for
from quart.typing import ResponseReturnValue
from wtforms import (  # type: ignore[attr-defined]  # types-wtforms does not have SelectChoice yet
    BooleanField,
    Form,
    PasswordField,
    SelectChoice,
    SelectField,
    StringField,
    SubmitField,
)

from microblog_rt.errors import Invalid, TooMany
from microblog_rt.models import READ_MESSAGES, READ_NOTIFICATIONS, SEND_MESSAGES, TOKEN_NAME_LENGTH
from microblog_rt.web.auth import OLD_PASSWORD, blueprint
from microblog_rt.web.authentication import authentication, current_user, signed_in
from microblog_rt.web.context import services
from microblog_rt.web.flashes import flash
from microblog_rt.web.forms import add_error, bind_form, redisplays_form, render_form, submitted
from microblog_rt.web.languages import gettext, lazy
from microblog_rt.web.sentences import N_

DAY = 86400
NEVER = "never"
LIFETIMES = [
    ("30", lazy(N_("30 days"))),
    ("90", lazy(N_("90 days"))),
    ("365", lazy(N_("1 year"))),
    (NEVER, lazy(N_("Never"))),
]
# The field of each scope; the scope to publish to any user is only given on the command line.
SCOPE_FIELDS = {
    "read_notifications": READ_NOTIFICATIONS,
    "read_messages": READ_MESSAGES,
    "send_messages": SEND_MESSAGES,
}


class TokenForm(Form):
    name = StringField(lazy(N_("Name")), render_kw={"maxlength": TOKEN_NAME_LENGTH, "autocomplete": "off"})
    read_notifications = BooleanField(lazy(N_("Read notifications")))
    read_messages = BooleanField(lazy(N_("Read messages, and mark them as read")))
    send_messages = BooleanField(lazy(N_("Send messages")))
    expires = SelectField(lazy(N_("Expires")), choices=[SelectChoice(*each) for each in LIFETIMES], default="90")
    old_password = PasswordField(lazy(N_("Current password")), render_kw=OLD_PASSWORD)
    submit = SubmitField(lazy(N_("Create token")))


@blueprint.route("/tokens", methods=["GET", "POST"])
@redisplays_form()
@signed_in
async def tokens() -> ResponseReturnValue:
    form, token = await bind_form(TokenForm), None
    if submitted(form):
        try:
            await authentication().reauthenticate(form.old_password.data or "")
            scopes = [scope for field, scope in SCOPE_FIELDS.items() if form[field].data]
            lasts = None if form.expires.data == NEVER else int(form.expires.data) * DAY
            token = await services().tokens.add(current_user().user, form["name"].data or "", scopes, lasts)
            form = TokenForm()
        except (Invalid, TooMany) as error:
            add_error(form, error)
    rows = await services().tokens.of_user(current_user().id)
    return await render_form("tokens.html", form, tokens=rows, token=token, scope_fields=list(SCOPE_FIELDS))


@blueprint.post("/tokens/revoke")
@signed_in
async def revoke_token() -> ResponseReturnValue:
    if await services().tokens.revoke(current_user().id, (await request.form).get("token", "")):
        flash(gettext("The access token has been revoked."), "success")
    return redirect(url_for(".tokens"), HTTPStatus.SEE_OTHER)

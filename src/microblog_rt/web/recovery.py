"""The pages to set a forgotten password, with a link that is sent by mail."""

from http import HTTPStatus

from quart import current_app, redirect, url_for
from quart.typing import ResponseReturnValue
from wtforms import Form, PasswordField, StringField, SubmitField

from microblog_rt.errors import Invalid, TooMany
from microblog_rt.web import known_devices, letters
from microblog_rt.web.auth import NAME, NEW_PASSWORD, add_password_errors, blueprint, stripped
from microblog_rt.web.authentication import address
from microblog_rt.web.context import services
from microblog_rt.web.flashes import flash
from microblog_rt.web.forms import add_error, bind_form, redisplays_form, render_form, submitted
from microblog_rt.web.languages import gettext, lazy
from microblog_rt.web.sentences import N_


class ForgottenForm(Form):
    username = StringField(lazy(N_("Username")), filters=[stripped], render_kw=NAME)
    submit = SubmitField(lazy(N_("Send the link")))


class NewPasswordForm(Form):
    password = PasswordField(lazy(N_("New password")), render_kw=NEW_PASSWORD)
    password2 = PasswordField(lazy(N_("Repeat new password")), render_kw=NEW_PASSWORD)
    submit = SubmitField(lazy(N_("Set the password")))


@blueprint.route("/reset_password_request", methods=["GET", "POST"])
@redisplays_form(any_owner=True)
async def reset_password_request() -> ResponseReturnValue:
    form, recovery = await bind_form(ForgottenForm), services().recovery
    if submitted(form):
        try:
            await recovery.ask_password(form.username.data or "", address(), letters.password_link())
            asked = gettext(
                "If this account exists and has an email address, a link to set a new password is sent there. It works"
                " for an hour."
            )
            flash(asked, "success")
            return redirect(url_for(".login"), HTTPStatus.SEE_OTHER)
        except TooMany as error:
            add_error(form, error)
    contact = current_app.config["CONTACT"]
    return await render_form("reset_password_request.html", form, enabled=recovery.enabled, contact=contact)


@blueprint.route("/reset_password/<token>", methods=["GET", "POST"])
async def reset_password(token: str) -> ResponseReturnValue:
    form, recovery = await bind_form(NewPasswordForm), services().recovery
    user = await recovery.password_link(token)
    if submitted(form):
        try:
            if not await add_password_errors(form, user):
                user = await recovery.reset_password(token, form.password.data or "")
                known_devices.remember(user)  # so that guesses from elsewhere do not keep its user out
                flash(
                    gettext("Your password has been changed. All sessions are signed out. Sign in with it."), "success"
                )
                return redirect(url_for(".login"), HTTPStatus.SEE_OTHER)
        except (Invalid, TooMany) as error:
            add_error(form, error)
    return await render_form("reset_password.html", form, username=user.username)

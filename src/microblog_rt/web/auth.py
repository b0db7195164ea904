"""Registering, signing in and out, changing one's password.

Not here: what a session and a password are (``accounts``), cookies (``authentication.py``), the page of sessions
(``sessions.py``).
"""

import re
from http import HTTPStatus

from quart import Blueprint, redirect, request, session, url_for
from quart.typing import ResponseReturnValue
from wtforms import BooleanField, EmailField, Form, PasswordField, StringField, SubmitField

from microblog_rt import accounts
from microblog_rt.errors import N_, Invalid, TooMany
from microblog_rt.models import EMAIL_LENGTH, USERNAME_LENGTH, User
from microblog_rt.web import drafts
from microblog_rt.web.authentication import address, authentication, current_user, signed_in
from microblog_rt.web.context import services
from microblog_rt.web.forms import blame, filled, keeps_form, say, show, submitted
from microblog_rt.web.languages import gettext, lazy

blueprint = Blueprint("auth", __name__, url_prefix="/auth")

EMAIL = {"autocomplete": "email", "maxlength": EMAIL_LENGTH}
NAME = {"autocomplete": "username", "maxlength": USERNAME_LENGTH}
OLD_PASSWORD = {"autocomplete": "current-password"}
NEW_PASSWORD = {"autocomplete": "new-password"}


def _stripped(value: str | None) -> str:
    return (value or "").strip()


class LoginForm(Form):
    username = StringField(lazy(N_("Username")), filters=[_stripped], render_kw=NAME)
    password = PasswordField(lazy(N_("Password")), render_kw=OLD_PASSWORD)
    remember_me = BooleanField(lazy(N_("Remember me")))
    submit = SubmitField(lazy(N_("Sign in")))


class RegisterForm(Form):
    username = StringField(lazy(N_("Username")), filters=[_stripped], render_kw=NAME)
    email = EmailField(lazy(N_("Email")), filters=[_stripped], render_kw=EMAIL)
    password = PasswordField(lazy(N_("Password")), render_kw=NEW_PASSWORD)
    password2 = PasswordField(lazy(N_("Repeat password")), render_kw=NEW_PASSWORD)
    submit = SubmitField(lazy(N_("Register")))


class PasswordForm(Form):
    old_password = PasswordField(lazy(N_("Present password")), render_kw=OLD_PASSWORD)
    password = PasswordField(lazy(N_("New password")), render_kw=NEW_PASSWORD)
    password2 = PasswordField(lazy(N_("Repeat new password")), render_kw=NEW_PASSWORD)
    submit = SubmitField(lazy(N_("Change password")))


@blueprint.route("/login", methods=["GET", "POST"])
@keeps_form
async def login() -> ResponseReturnValue:
    if request.method == "GET" and current_user().signed_in:
        return redirect(await _next())
    form = await filled(LoginForm)
    if submitted(form):
        try:
            name, password = form.username.data or "", form.password.data or ""
            user = await services().accounts.check_password(name, password, address())
            return await _welcome(user, remembered=bool(form.remember_me.data))
        except (Invalid, TooMany) as error:
            blame(form, error)
    return await show("login.html", form, next=await _next(""))


@blueprint.route("/register", methods=["GET", "POST"])
@keeps_form
async def register() -> ResponseReturnValue:
    if request.method == "GET" and current_user().signed_in:
        return redirect(await _next())
    form = await filled(RegisterForm)
    if submitted(form) and not await _wrong(form):
        try:
            name, password = form.username.data or "", form.password.data or ""
            user = await services().accounts.register(name, password, form.email.data, address())
            return await _welcome(user, remembered=False)
        except (Invalid, TooMany) as error:
            blame(form, error)
    return await show("register.html", form, next=await _next(""))


@blueprint.post("/logout")
async def logout() -> ResponseReturnValue:
    await authentication().sign_out()
    session.clear()
    await say(gettext("You are signed out."), "success")
    return redirect(url_for("people.index"), HTTPStatus.SEE_OTHER)


@blueprint.route("/change_password", methods=["GET", "POST"])
@keeps_form
@signed_in
async def change_password() -> ResponseReturnValue:
    user, form = current_user().user, await filled(PasswordForm)
    if submitted(form) and not await _wrong_new(form, user):
        try:
            await authentication().change_password(form.old_password.data or "", form.password.data or "")
            await say(gettext("Your password has been changed. You are signed out everywhere else."), "success")
            return redirect(url_for("people.user", username=user.username), HTTPStatus.SEE_OTHER)
        except (Invalid, TooMany) as error:
            blame(form, error)
    return await show("change_password.html", form)


async def _wrong(form: RegisterForm) -> bool:
    password = form.password.data or ""
    return _blamed(form, await accounts.faults(form.username.data or "", password, form.email.data))


async def _wrong_new(form: PasswordForm, user: User) -> bool:
    return _blamed(form, await accounts.password_faults(form.password.data or "", user.username))


def _blamed(form: RegisterForm | PasswordForm, wrong: list[Invalid]) -> bool:
    """Show all that is wrong at once; whether anything is."""
    if (form.password.data or "") != (form.password2.data or ""):
        wrong.append(Invalid("password2", N_("The two passwords differ.")))
    for error in wrong:
        blame(form, error)
    return bool(wrong)


async def _welcome(user: User, *, remembered: bool) -> ResponseReturnValue:
    await authentication().sign_in(user, remembered=remembered)
    drafts.carry_over(user.id)
    return redirect(await _next(), HTTPStatus.SEE_OTHER)


async def _next(otherwise: str | None = None) -> str:
    """Where the visitor wanted to go, if that is inside; else ``otherwise``, or the start."""
    wanted = (await request.form).get("next") or request.args.get("next", "")
    if INSIDE.fullmatch(wanted):
        return wanted
    return url_for("people.index") if otherwise is None else otherwise


# A path of ours: one slash, not two, no backslash (which browsers take for a slash), nothing invisible.
INSIDE = re.compile(r"/(?![/\\])[!-\[\]-~]*")

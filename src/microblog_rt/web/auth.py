"""The pages to register, sign in and out, and change the password."""

import re
from http import HTTPStatus

from quart import Blueprint, redirect, request, url_for
from quart.typing import ResponseReturnValue
from wtforms import BooleanField, EmailField, Form, PasswordField, StringField, SubmitField

from microblog_rt.errors import Invalid, TooMany
from microblog_rt.models import EMAIL_LENGTH, User
from microblog_rt.web import known_devices
from microblog_rt.web.authentication import address, authentication, current_user, signed_in
from microblog_rt.web.context import services
from microblog_rt.web.flashes import flash, forget_flashes
from microblog_rt.web.forms import (
    add_error,
    bind_form,
    redisplays_form,
    render_form,
    submitted,
)
from microblog_rt.web.languages import gettext, lazy
from microblog_rt.web.sentences import N_

blueprint = Blueprint("auth", __name__, url_prefix="/auth")

EMAIL = {"autocomplete": "email", "maxlength": EMAIL_LENGTH}
NAME = {"autocomplete": "username"}
OLD_PASSWORD = {"autocomplete": "current-password"}
NEW_PASSWORD = {"autocomplete": "new-password"}


def stripped(value: str | None) -> str:
    return (value or "").strip()


class LoginForm(Form):
    username = StringField(lazy(N_("Username")), filters=[stripped], render_kw=NAME)
    password = PasswordField(lazy(N_("Password")), render_kw=OLD_PASSWORD)
    remember_me = BooleanField(lazy(N_("Remember me")))
    submit = SubmitField(lazy(N_("Sign in")))


class RegisterForm(Form):
    username = StringField(lazy(N_("Username")), filters=[stripped], render_kw=NAME)
    email = EmailField(lazy(N_("Email")), filters=[stripped], render_kw=EMAIL)
    password = PasswordField(lazy(N_("Password")), render_kw=NEW_PASSWORD)
    password2 = PasswordField(lazy(N_("Repeat password")), render_kw=NEW_PASSWORD)
    invitation = StringField(lazy(N_("Invitation code")), filters=[stripped], render_kw={"autocomplete": "off"})
    submit = SubmitField(lazy(N_("Register")))


class PasswordForm(Form):
    old_password = PasswordField(lazy(N_("Current password")), render_kw=OLD_PASSWORD)
    password = PasswordField(lazy(N_("New password")), render_kw=NEW_PASSWORD)
    password2 = PasswordField(lazy(N_("Repeat new password")), render_kw=NEW_PASSWORD)
    submit = SubmitField(lazy(N_("Change password")))


@blueprint.route("/login", methods=["GET", "POST"])
@redisplays_form(any_owner=True)
async def login() -> ResponseReturnValue:
    if request.method == "GET" and current_user().signed_in:
        return redirect(await _next())
    form = await bind_form(LoginForm)
    if submitted(form):
        try:
            name, password = form.username.data or "", form.password.data or ""
            user = await services().accounts.check_password(name, password, address(), known_devices.device())
            return await _sign_in(user, remembered=bool(form.remember_me.data))
        except (Invalid, TooMany) as error:
            add_error(form, error)
    return await render_form("login.html", form, next=await _next(""))


@blueprint.route("/register", methods=["GET", "POST"])
@redisplays_form(any_owner=True)
async def register() -> ResponseReturnValue:
    registration = services().registration
    registration.check_open()
    if request.method == "GET" and current_user().signed_in:
        return redirect(await _next())
    form = await bind_form(RegisterForm)
    if request.method == "GET":
        form.invitation.data = request.args.get("invitation", "")
    if submitted(form):
        try:
            code = form.invitation.data or ""
            await registration.check_invitation(code)  # first, so that only its holder learns which names are taken
            if not await _has_errors(form):
                name, password = form.username.data or "", form.password.data or ""
                user = await registration.register(name, password, form.email.data, address(), code)
                return await _sign_in(user, remembered=False)
        except (Invalid, TooMany) as error:
            add_error(form, error)
    return await render_form("register.html", form, next=await _next(""), invited=registration.needs_invitation)


@blueprint.post("/logout")
async def logout() -> ResponseReturnValue:
    await authentication().sign_out()
    forget_flashes()
    flash(gettext("You have signed out."), "success")
    return redirect(url_for("people.index"), HTTPStatus.SEE_OTHER)


@blueprint.route("/change_password", methods=["GET", "POST"])
@redisplays_form()
@signed_in
async def change_password() -> ResponseReturnValue:
    user, form = current_user().user, await bind_form(PasswordForm)
    if submitted(form):
        try:
            if not await add_password_errors(form, user):
                await authentication().change_password(form.old_password.data or "", form.password.data or "")
                known_devices.remember(user)
                changed = gettext("Your password has been changed. All other sessions are signed out.")
                flash(changed, "success")
                return redirect(url_for("people.user", username=user.username), HTTPStatus.SEE_OTHER)
        except (Invalid, TooMany) as error:
            add_error(form, error)
    return await render_form("change_password.html", form)


async def _has_errors(form: RegisterForm) -> bool:
    password = form.password.data or ""
    faults = await services().accounts.faults(form.username.data or "", password, form.email.data, address())
    return _add_errors(form, faults)


async def add_password_errors(form: Form, user: User) -> bool:
    """Add everything that is wrong with the new password to the form; return whether there is anything."""
    return _add_errors(form, await services().accounts.password_faults(user, form["password"].data or "", address()))


def _add_errors(form: Form, errors: list[Invalid]) -> bool:
    """Add all errors to the form; return whether there are any."""
    if (form["password"].data or "") != (form["password2"].data or ""):
        errors.append(Invalid("password2", "passwords_differ"))
    for error in errors:
        add_error(form, error)
    return bool(errors)


async def _sign_in(user: User, *, remembered: bool) -> ResponseReturnValue:
    await authentication().sign_in(user, remembered=remembered)
    forget_flashes()
    known_devices.remember(user)
    return redirect(await _next(), HTTPStatus.SEE_OTHER)


async def _next(otherwise: str | None = None) -> str:
    """The ``next`` parameter if it is a path of this site; else ``otherwise``, or the home page."""
    target = (await request.form).get("next") or request.args.get("next", "")
    if is_local(target):
        return target
    return url_for("people.index") if otherwise is None else otherwise


def is_local(target: str) -> bool:
    """Whether ``target`` is a path of this site: below the path prefix, which no segment ``..`` leaves."""
    prefix = request.root_path
    if not LOCAL_PATH.fullmatch(target) or not target.startswith(f"{prefix}/"):
        return False
    return not (prefix and UPWARDS.match(target))


# One leading slash, not two, and no backslash (browsers treat it as a slash), space or control character.
LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")
UPWARDS = re.compile(r"[^?#]*/(?:\.|%2e){2}(?:[/?#]|$)", re.IGNORECASE)  # as browsers read it

"""Registering, signing in and out. Not here: sessions and passwords (``accounts.py``), cookies (``visitors.py``)."""

import re
from http import HTTPStatus

from quart import Blueprint, redirect, request, session, url_for
from quart.typing import ResponseReturnValue
from wtforms import BooleanField, EmailField, Form, PasswordField, StringField, SubmitField

from microblog_rt import accounts
from microblog_rt.errors import N_, Invalid
from microblog_rt.models import EMAIL_LENGTH, USERNAME_LENGTH, User
from microblog_rt.web import drafts
from microblog_rt.web.forms import blame, filled, keeps_form, say, show, submitted
from microblog_rt.web.languages import gettext, lazy
from microblog_rt.web.verbs import verbs
from microblog_rt.web.visitors import current_user, visitors

blueprint = Blueprint("auth", __name__, url_prefix="/auth")

EMAIL = {"autocomplete": "email", "maxlength": EMAIL_LENGTH}
NAME = {"autocomplete": "username", "maxlength": USERNAME_LENGTH}


def _stripped(value: str | None) -> str:
    return (value or "").strip()


class LoginForm(Form):
    username = StringField(lazy(N_("Username")), filters=[_stripped], render_kw=NAME)
    password = PasswordField(lazy(N_("Password")), render_kw={"autocomplete": "current-password"})
    remember_me = BooleanField(lazy(N_("Remember me")))
    submit = SubmitField(lazy(N_("Sign in")))


class RegisterForm(Form):
    username = StringField(lazy(N_("Username")), filters=[_stripped], render_kw=NAME)
    email = EmailField(lazy(N_("Email")), filters=[_stripped], render_kw=EMAIL)
    password = PasswordField(lazy(N_("Password")), render_kw={"autocomplete": "new-password"})
    password2 = PasswordField(lazy(N_("Repeat password")), render_kw={"autocomplete": "new-password"})
    submit = SubmitField(lazy(N_("Register")))


@blueprint.route("/login", methods=["GET", "POST"])
@keeps_form
async def login() -> ResponseReturnValue:
    if request.method == "GET" and current_user().signed_in:
        return redirect(await _next())
    form = await filled(LoginForm)
    if submitted(form):
        try:
            name, password = form.username.data or "", form.password.data or ""
            user = await verbs().accounts.check_password(name, password)
            return await _welcome(user, remembered=bool(form.remember_me.data))
        except Invalid as error:
            blame(form, error)
    return await show("login.html", form, next=await _next(""))


@blueprint.route("/register", methods=["GET", "POST"])
@keeps_form
async def register() -> ResponseReturnValue:
    if request.method == "GET" and current_user().signed_in:
        return redirect(await _next())
    form = await filled(RegisterForm)
    if submitted(form) and not _blamed(form):
        try:
            name, password = form.username.data or "", form.password.data or ""
            user = await verbs().accounts.register(name, password, form.email.data)
            return await _welcome(user, remembered=False)
        except Invalid as error:
            blame(form, error)
    return await show("register.html", form, next=await _next(""))


@blueprint.post("/logout")
async def logout() -> ResponseReturnValue:
    await visitors().sign_out()
    session.clear()
    await say(gettext("You are signed out."), "success")
    return redirect(url_for("people.index"), HTTPStatus.SEE_OTHER)


def _blamed(form: RegisterForm) -> bool:
    """Show all that is wrong at once; whether anything is."""
    password = form.password.data or ""
    wrong = list(accounts.faults(form.username.data or "", password, form.email.data))
    if password != (form.password2.data or ""):
        wrong.append(Invalid("password2", N_("The two passwords differ.")))
    for error in wrong:
        blame(form, error)
    return bool(wrong)


async def _welcome(user: User, *, remembered: bool) -> ResponseReturnValue:
    await visitors().sign_in(user, remembered=remembered)
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

"""The page of the user's account: change or remove the e-mail address, export the data, delete the account."""

from http import HTTPStatus

from quart import Blueprint, current_app, make_response, redirect, url_for
from quart.typing import ResponseReturnValue
from wtforms import EmailField, Form, PasswordField, SubmitField

from microblog_rt.errors import Invalid, TooMany
from microblog_rt.web import letters
from microblog_rt.web.auth import EMAIL, OLD_PASSWORD, stripped
from microblog_rt.web.authentication import address, authentication, current_user, signed_in
from microblog_rt.web.context import services
from microblog_rt.web.flashes import flash, forget_flashes
from microblog_rt.web.forms import add_error, bind_form, redisplays_form, render_form, submitted
from microblog_rt.web.languages import gettext, lazy
from microblog_rt.web.sentences import N_

blueprint = Blueprint("account", __name__, url_prefix="/account")


class EmailForm(Form):
    email = EmailField(lazy(N_("New email address")), filters=[stripped], render_kw=EMAIL)
    old_password = PasswordField(lazy(N_("Current password")), render_kw=OLD_PASSWORD)
    submit = SubmitField(lazy(N_("Send a link to confirm it")))
    remove = SubmitField(lazy(N_("Remove the address")))


class DeleteForm(Form):
    old_password = PasswordField(lazy(N_("Current password")), render_kw=OLD_PASSWORD)
    submit = SubmitField(lazy(N_("Delete my account")))


class ConfirmForm(Form):
    submit = SubmitField(lazy(N_("Confirm")))


@blueprint.route("", methods=["GET", "POST"])
@redisplays_form()
@signed_in
async def account() -> ResponseReturnValue:
    user, form, recovery = current_user().user, await bind_form(EmailForm), services().recovery
    if submitted(form):
        try:
            await authentication().reauthenticate(form.old_password.data or "")
            flash(await _changed(form), "success")
            return redirect(url_for(".account"), HTTPStatus.SEE_OTHER)
        except (Invalid, TooMany) as error:
            add_error(form, error)
    pending = await recovery.pending_email(user.id) if recovery.enabled else None
    contact = current_app.config["CONTACT"]
    return await render_form(
        "account.html", form, email=user.email, pending=pending, enabled=recovery.enabled, contact=contact
    )


async def _changed(form: EmailForm) -> str:
    """Do what the form asks for, and return the sentence about it. Raises Forbidden, Invalid, TooMany."""
    user, recovery = current_user().user, services().recovery
    if form.remove.data:
        await recovery.set_email(user, None, letters.email_removed())
        return gettext("Your email address has been removed.")
    email = form.email.data or ""
    await recovery.ask_email(user, email, address(), letters.email_link())
    return gettext("A link is sent to %(email)s. Open it within an hour to confirm the address.", email=email)


@blueprint.get("/export")
@signed_in
async def export() -> ResponseReturnValue:
    answer = await make_response(services().export.of(current_user().user))
    answer.content_type = "application/json"
    answer.headers["Content-Disposition"] = 'attachment; filename="microblog.json"'
    return answer


@blueprint.route("/delete", methods=["GET", "POST"])
@redisplays_form()
@signed_in
async def delete() -> ResponseReturnValue:
    form = await bind_form(DeleteForm)
    if submitted(form):
        try:
            await authentication().reauthenticate(form.old_password.data or "")
            await services().removal.delete(current_user().username)
            authentication().logout_user()
            forget_flashes()
            flash(gettext("Your account, your posts and your messages have been deleted."), "success")
            return redirect(url_for("people.index"), HTTPStatus.SEE_OTHER)
        except (Invalid, TooMany) as error:
            add_error(form, error)
    return await render_form("delete_account.html", form)


@blueprint.route("/email/<token>", methods=["GET", "POST"])
async def confirm_email(token: str) -> ResponseReturnValue:
    form, recovery = await bind_form(ConfirmForm), services().recovery
    link = await recovery.email_link(token)
    if submitted(form):
        await recovery.confirm_email(token, letters.email_changed())
        confirmed = gettext("%(email)s is the email address of %(name)s now.", email=link.email, name=link.username)
        flash(confirmed, "success")
        target = ".account" if current_user().signed_in else "people.index"
        return redirect(url_for(target), HTTPStatus.SEE_OTHER)
    return await render_form("confirm_email.html", form, link=link)

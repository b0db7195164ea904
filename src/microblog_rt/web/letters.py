"""The mails, in the language of the request that causes them."""

from urllib.parse import urlsplit

from quart import current_app

from microblog_rt.accounts.recovery import Letter
from microblog_rt.web.languages import gettext


def password_link() -> Letter:
    """The mail with a link to set a new password."""
    return _letter(
        gettext("A new password for %(name)s"),
        gettext("Hello %(name)s,"),
        gettext("A new password was asked for on %(site)s, where this is your account. To set it, open this link:"),
        "%(url)s",
        gettext("The link works once, within an hour."),
        gettext("If you did not ask for it, ignore this mail. Your password stays as it is."),
        path="/auth/reset_password/",
    )


def email_link() -> Letter:
    """The mail with a link that confirms an address."""
    return _letter(
        gettext("Confirm the email address of %(name)s"),
        gettext("Hello,"),
        gettext("This address was entered on %(site)s for the account %(name)s. To confirm it, open this link:"),
        "%(url)s",
        gettext("The link works once, within an hour."),
        gettext("If this is not your account, ignore this mail. The address is not used then."),
        path="/account/email/",
    )


def email_changed() -> Letter:
    """The mail to the former address, after another one has taken its place."""
    return _letter(
        gettext("The email address of %(name)s was changed"),
        gettext("Hello %(name)s,"),
        gettext("Your account on %(site)s has another email address now. This one is not used any more."),
        _if_unexpected(),
    )


def email_removed() -> Letter:
    """The mail to an address that its user has removed."""
    return _letter(
        gettext("The email address of %(name)s was removed"),
        gettext("Hello %(name)s,"),
        gettext("This address was removed from your account on %(site)s and is not used any more."),
        _if_unexpected(),
    )


def _if_unexpected() -> str:
    return gettext(
        "If this was not you, another person has used your account. Change your password, or ask the operator of the"
        " site."
    )


def _letter(subject: str, *paragraphs: str, path: str = "") -> Letter:
    base = current_app.config["SITE_URL"]
    site = urlsplit(base).netloc
    text = "\n\n".join(paragraphs) + "\n"
    return Letter(subject, text.replace("%(site)s", site), base + path)

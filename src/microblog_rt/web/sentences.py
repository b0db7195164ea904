"""The sentence for each error reason, in English; the catalogues translate them.

See also: ``errors.py``, whose ``reason`` and ``values`` select and fill a sentence.
"""

from microblog_rt.errors import Refused


def N_(sentence: str) -> str:
    """Mark ``sentence`` for extraction; it is translated where it is shown."""
    return sentence


SENTENCES = {
    # Wire codes, the default reasons.
    "refused": N_("The request was refused."),
    "bad_request": N_("The server cannot process this request. Check it and try again."),
    "invalid_text": N_("The request contains a NUL character. Remove it and try again."),
    "invalid": N_("This value is not valid."),
    "signed_out": N_("Sign in to continue."),
    "credential_missing": N_("Send an access token in the header Authorization, as in: Bearer mbrt_..."),
    "token_ended": N_(
        "The access token is not valid: it has expired, was revoked, or is incomplete. Create another on the page"
        " “Access tokens”."
    ),
    "jwt_refused": N_("The signed token (JWT) is not valid: %(why)s."),
    "subject_invalid": N_("The “sub” of the signed token is not in Unicode's form NFKC, as a username must be."),
    "subject_taken": N_(
        "The “sub” of the signed token, %(name)s, is the name of another account here. Use another “sub” for this user."
    ),
    "scope_missing": N_("The access token does not have the scope %(scope)s. Use one that has it."),
    "forbidden": N_("You are not allowed to do this."),
    "origin_missing": N_("The request has no Origin header. Send the address of this site as its origin."),
    "origin_foreign": N_("This request came from another site. Open this site and try again there."),
    "csrf_missing": N_(
        "The request has no CSRF token, or the cookie of the token is missing. Allow cookies, reload the page and try"
        " again."
    ),
    "csrf_wrong": N_("The CSRF token is not valid for this browser or this account. Reload the page and try again."),
    "other_account": N_(
        "You are signed in as %(name)s now. Nothing was done. Reload the page to continue with this account."
    ),
    "host_unknown": N_(
        "This is not an address of this site. Its operator sets the address with --bind or MICROBLOG_PUBLIC_URL."
    ),
    "not_found": N_("This page does not exist."),
    "method_not_allowed": N_("This address does not support that HTTP method."),
    "too_large": N_("The request is too large. Nothing was saved. Shorten it and try again."),
    "too_large_signed_out": N_("You are signed out. Nothing was sent. Sign in to send more than 4 KiB."),
    "unsupported_media_type": N_("The body must be JSON. Send it with Content-Type: application/json."),
    "idempotency_key_reused": N_("This Idempotency-Key was already used for another request. Use a new key."),
    "too_many": N_("Too many requests. Wait a moment and try again."),
    "unexpected": N_("An unexpected error occurred. It has been logged."),
    "unavailable": N_("Service unavailable. Try again in a moment."),
    "draining": N_("Service unavailable. Try again in a moment."),
    # Accounts.
    "username_format": N_(
        "A username has %(least)s to %(most)s letters, digits, “_”, “.” or “-”. "
        "It starts with a letter and does not end with “.” or “-”."
    ),
    "username_reserved": N_("This username is reserved. Choose another."),
    "username_similar": N_("This username looks like that of another account. Choose another."),
    "username_taken": N_("This username is taken. Choose another."),
    "email_format": N_("This is not a valid email address."),
    "email_same": N_("This is your email address already."),
    "mail_off": N_("This site sends no mail. Ask its operator."),
    "link_ended": N_(
        "This link is not valid any more: it was used, has expired, or was replaced by a later change. Ask for another."
    ),
    "registration_closed": N_("Registration is closed on this site. Ask its operator for an account."),
    "invitation_missing": N_("Registration on this site needs an invitation. Enter the code that you were given."),
    "invitation_ended": N_(
        "This invitation is not valid: it was used, has expired, or is incomplete. Ask for another."
    ),
    "password_length": N_("A password has %(least)s to %(most)s characters."),
    "password_too_common": N_(
        "This is one of the most common passwords, which are guessed first. Choose another, such as four unrelated"
        " words."
    ),
    "password_personal": N_(
        "This password is easy to guess: it contains your name, your email address or the name of this site. Add"
        " unrelated words."
    ),
    "password_too_simple": N_(
        "This password is easy to guess. Make it longer, for example with unrelated words, and avoid repeated"
        " characters, dates and rows of keys."
    ),
    "passwords_differ": N_("The passwords do not match."),
    "wrong_password": N_("Wrong username or password."),
    "wrong_current_password": N_("This is not your current password."),
    "account_disabled": N_("This account is disabled."),
    "unknown_user": N_("There is no user called %(name)s."),
    "token_name_length": N_("The name of an access token has 1 to %(limit)s characters."),
    "token_scope_missing": N_("Choose at least one permission."),
    "token_scope_unknown": N_("%(name)s is not a scope. The scopes are %(known)s."),
    "too_many_tokens": N_("You have %(limit)s access tokens. Revoke one that you do not use."),
    "unknown_token": N_("There is no access token with the id %(name)s."),
    # Messages and notifications.
    "message_empty": N_("Enter a message."),
    "message_too_long": N_("The message has %(length)s characters. The limit is %(limit)s."),
    "message_too_complex": N_(
        "The characters of the message consist of %(length)s parts (Unicode code points). The limit is %(limit)s."
    ),
    "post_empty": N_("Enter a text."),
    "post_too_long": N_("The post has %(length)s characters. The limit is %(limit)s."),
    "post_too_complex": N_(
        "The characters of the post consist of %(length)s parts (Unicode code points). The limit is %(limit)s."
    ),
    "seen_format": N_("up_to must be the id of one post."),
    "unknown_post": N_("This post does not exist."),
    "display_name_too_long": N_("The name has %(length)s characters. The limit is %(limit)s."),
    "display_name_too_complex": N_(
        "The characters of the name consist of %(length)s parts (Unicode code points). The limit is %(limit)s."
    ),
    "about_me_too_long": N_("The text has %(length)s characters. The limit is %(limit)s."),
    "about_me_too_complex": N_(
        "The characters of the text consist of %(length)s parts (Unicode code points). The limit is %(limit)s."
    ),
    "follow_oneself": N_("You cannot follow yourself."),
    "idempotency_key_format": N_("Idempotency-Key must be one value of 1 to 255 printable ASCII characters."),
    "mark_format": N_("%(field)s must be one timestamp in seconds, as in a notification."),
    "recipient_disabled": N_("This account is disabled and receives no messages."),
    "notification_name_length": N_("A notification's name has 1 to %(limit)s characters."),
    "notification_data_not_json": N_("A notification's data must be JSON: %(error)s"),
    # Forms that are shown again.
    "cookies_needed": N_("This site needs cookies to sign you in. Allow them and try again."),
    "form_expired": N_("This page has expired. Try again."),
    "text_expired": N_("This page has expired. Your text is below; send it again."),
    "text_of_other_account": N_(
        "You are signed in as %(name)s now. Nothing was sent. Your text is below; "
        "to send it, sign in with the account that wrote it."
    ),
    "outside_prefix": N_("Nothing is served at this address. The addresses of this site begin with %(prefix)s/."),
    # The API.
    "api_not_found": N_("Nothing was found at this address of the API. Its addresses are in /openapi.json."),
    "session_cannot_publish": N_(
        "A session may not publish notifications. Use an access token with the scope %(scope)s."
    ),
    "body_not_json": N_("The body must be one JSON object: %(error)s"),
    "body_not_empty": N_("The body must be empty."),
    "field_missing": N_("%(name)s is missing. Send it in the JSON object."),
    "field_unknown": N_("%(name)s is not a field of this request. Remove it."),
    "field_kind": N_("%(name)s must be %(kind)s."),
    "query_kind": N_("%(field)s must be one %(kind)s in the query."),
    "before_and_after": N_("Send either before or after."),
    "all_or_interval": N_("Send either all, or from and up_to."),
    "notification_name_reserved": N_("Names that begin with “unread_” belong to the application. Choose another name."),
    "notification_data_too_long": N_("data has %(length)s bytes as JSON. The limit is %(limit)s."),
    "unknown_notification": N_("There is no notification called %(name)s."),
    "batch_length": N_("A batch has 1 to %(limit)s items."),
    # Requests.
    "page_key_format": N_("The address of this page is not valid. Go back and follow a link."),
    "since_format": N_("since must be one number of seconds, 0 or more."),
    "wait_format": N_("wait must be one number of seconds."),
    "too_many_names": N_("Too many names."),
    "too_many_tabs": N_("Too many open pages. Close some and try again."),
}


def template(error: Refused) -> str:
    """The sentence with its ``%(name)s`` places; an unknown reason is its own sentence."""
    return SENTENCES.get(error.reason, error.reason)


def sentence(error: Refused) -> str:
    """The sentence in English."""
    text = template(error)
    return text % error.values if error.values else text

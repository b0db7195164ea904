"""What a browser has chosen in the footer of the pages: the language and the theme, in a cookie.

The cookie is not signed: each value is one of a few. See also: ``footer.py``, the form.
"""

from typing import Any, NamedTuple

from quart import Quart, Response, current_app, g, has_request_context, request

# The tags (BCP 47) of the languages with a catalogue, and their names in their own language. The first is the default.
LANGUAGES = {"en": "English", "es": "Español", "zh-Hant": "繁體中文"}
SYSTEM = "system"
THEMES = (SYSTEM, "light", "dark")
LIFETIME = 365 * 86400  # seconds


class Preferences(NamedTuple):
    """The choices; by default the language that the browser prefers, and the theme of its system."""

    language: str = ""
    theme: str = SYSTEM


def init(app: Quart, cookie_name: str, attributes: dict[str, Any]) -> None:
    """Give templates the ``theme``, and send the cookie that ``choose`` has set."""
    app.config["PREFERENCES_COOKIE_NAME"] = cookie_name

    @app.context_processor
    async def theme() -> dict[str, str]:
        return {"theme": preferences().theme}

    @app.after_request
    async def send_cookie(response: Response) -> Response:
        if "chosen" in g:
            response.set_cookie(cookie_name, ".".join(g.chosen), max_age=LIFETIME, **attributes)
        return response


def preferences() -> Preferences:
    """The preferences of the browser that sent the current request; the default ones without a request."""
    if not has_request_context():
        return Preferences()
    return preferences_in(request.cookies.get(current_app.config["PREFERENCES_COOKIE_NAME"], ""))


def preferences_in(cookie: str) -> Preferences:
    """The preferences in the content of a cookie; unknown values are ignored."""
    language, _, theme = cookie.partition(".")
    return Preferences(language if language in LANGUAGES else "", theme if theme in THEMES else SYSTEM)


def choose(language: str, theme: str) -> None:
    """Set the cookie with the response: a language and a theme; "" keeps the one before.

    Raises ValueError for an unknown one.
    """
    before = preferences()
    chosen = Preferences(language or before.language, theme or before.theme)
    if preferences_in(".".join(chosen)) != chosen:
        raise ValueError
    g.chosen = chosen

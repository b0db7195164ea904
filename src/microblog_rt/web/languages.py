"""Language selection and translation; the only module that uses quart-babel."""

from datetime import UTC, datetime
from typing import Any, cast

from babel.support import LazyProxy
from quart import Quart, request
from quart_babel import Babel, get_locale, gettext, refresh

from microblog_rt.errors import Refused
from microblog_rt.files import TRANSLATIONS
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.web import sentences

LANGUAGES = ("en", "es")

__all__ = ["LANGUAGES", "gettext", "init", "lazy", "refresh", "translated"]


def init(app: Quart) -> None:
    """Render pages in the language that the browser prefers."""
    Babel(app, default_translation_directories=str(TRANSLATIONS), locale_selector=_preferred)

    app.add_template_filter(_utc, "utc")

    @app.context_processor
    async def locale() -> dict[str, Any]:
        return {"locale": str(get_locale())}


def translated(error: Refused) -> str:
    """The sentence for an error in the request's language."""
    return gettext(sentences.template(error), **error.values)


def lazy(sentence: str) -> str:
    """A string that is translated when it is rendered. Never with user input: it is not escaped."""
    return cast(str, LazyProxy(gettext, sentence, enable_cache=False))


def _utc(microseconds: int) -> datetime:
    """The time that models and pages share, as the date filters need it."""
    return datetime.fromtimestamp(microseconds / MICROSECONDS, UTC)


def _preferred() -> str:
    return request.accept_languages.best_match(LANGUAGES, LANGUAGES[0])

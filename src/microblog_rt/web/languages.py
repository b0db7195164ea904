"""quart-babel behind one module: which language a page is in, and its words."""

from typing import Any, cast

from babel.support import LazyProxy
from quart import Quart, request
from quart_babel import Babel, get_locale, gettext

from microblog_rt.errors import Refused
from microblog_rt.files import TRANSLATIONS

LANGUAGES = ("en", "es")

__all__ = ["LANGUAGES", "gettext", "init", "lazy", "said"]


def init(app: Quart) -> None:
    """Let pages speak the language that the browser prefers."""
    Babel(app, default_translation_directories=str(TRANSLATIONS), locale_selector=_preferred)

    @app.context_processor
    async def locale() -> dict[str, Any]:
        return {"locale": str(get_locale())}


def said(error: Refused) -> str:
    """A refusal's sentence in the language of the page."""
    return gettext(error.sentence, **error.values)


def lazy(sentence: str) -> str:
    """A sentence of ours that is translated when it is shown. Never one with user text: it is not escaped."""
    return cast(str, LazyProxy(gettext, sentence, enable_cache=False))


def _preferred() -> str:
    return request.accept_languages.best_match(LANGUAGES, LANGUAGES[0])

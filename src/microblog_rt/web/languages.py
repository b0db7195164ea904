"""Language selection and translation, with Babel.

The catalogues are loaded once, and the language is selected when a request first needs it. quart-babel, which did both
for each string anew, cost 7 % of a send (measured).
"""

from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, NamedTuple, cast

from babel import Locale
from babel.dates import format_datetime
from babel.support import LazyProxy, NullTranslations, Translations
from quart import Quart, g, has_request_context, request
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from microblog_rt.errors import Refused
from microblog_rt.files import TRANSLATIONS
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.web import sentences
from microblog_rt.web.preferences import LANGUAGES, preferences

DEFAULT = next(iter(LANGUAGES))
TRADITIONAL, SIMPLIFIED = "zh-Hant", "zh-Hans"
TRADITIONAL_REGIONS = {"hk", "mo", "tw"}


class Language(NamedTuple):
    """A language with its catalogue; ``tag`` is what HTML and browsers call it."""

    tag: str
    locale: Locale
    catalogue: NullTranslations


def init(app: Quart) -> None:
    """Render pages in the language that the browser prefers."""
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(gettext, _ngettext, newstyle=True)  # type: ignore[attr-defined]
    app.add_template_filter(_utc, "utc")
    app.add_template_filter(_datetime_format, "datetimeformat")

    @app.context_processor
    async def language() -> dict[str, Any]:
        return {"language": _language().tag}


def gettext(sentence: str, **values: Any) -> str:
    """``sentence`` in the request's language, filled with ``values``; in English without a request."""
    translated: str = _language().catalogue.ugettext(sentence)
    return translated % values if values else translated


def refresh() -> None:
    """Select the language of the request anew."""
    g.pop("language", None)


def translated(error: Refused) -> str:
    """The sentence for an error in the request's language."""
    return gettext(sentences.template(error), **error.values)


def lazy(sentence: str) -> str:
    """A string that is translated when it is rendered. Never with user input: it is not escaped."""
    return cast(str, LazyProxy(gettext, sentence, enable_cache=False))


def _utc(microseconds: int) -> datetime:
    """The time that models and pages share, as the date filters need it."""
    return datetime.fromtimestamp(microseconds / MICROSECONDS, UTC)


def _datetime_format(moment: datetime, style: str) -> str:
    return format_datetime(moment, style, locale=_language().locale)


def _ngettext(singular: str, plural: str, num: int) -> str:
    translated: str = _language().catalogue.ungettext(singular, plural, num)  # Jinja fills it
    return translated


def _language() -> Language:
    if not has_request_context():
        return _loaded(DEFAULT)
    if "language" not in g:
        g.language = language_for(preferences().language, request.headers.get("Accept-Language", ""))
    return cast(Language, g.language)


def language_for(chosen: str, accept_language: str) -> Language:
    """The language to use: the chosen one, or else (``chosen`` is empty) the best for a value of Accept-Language."""
    return _loaded(chosen) if chosen else preferred(accept_language)


@lru_cache(maxsize=1000)  # parsing it takes 3 % of a send (measured)
def preferred(accept_language: str) -> Language:
    """The language to use for a value of Accept-Language.

    A reader of Simplified Chinese gets Traditional Chinese only if the value names no language that is available.
    """
    tags = [_available(tag) for tag, quality in parse_accept_header(accept_language, LanguageAccept) if quality > 0]
    fitting = [tag for tag in tags if tag in LANGUAGES]
    return _loaded(fitting[0] if fitting else TRADITIONAL if SIMPLIFIED in tags else DEFAULT)


def _available(tag: str) -> str:
    """The tag of the same language, and for Chinese of the same script, as in LANGUAGES; or SIMPLIFIED."""
    language, *subtags = tag.lower().replace("_", "-").split("-")
    if language != "zh":
        return language
    script = next((each for each in subtags if len(each) == len("Hant")), "")
    traditional = script == "hant" if script else not TRADITIONAL_REGIONS.isdisjoint(subtags)
    return TRADITIONAL if traditional else SIMPLIFIED


@cache
def _loaded(tag: str) -> Language:
    locale = Locale.parse(tag, sep="-")
    return Language(tag, locale, Translations.load(str(TRANSLATIONS), [str(locale)]))

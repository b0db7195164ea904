"""The catalogues (gettext), and the two steps that keep them: update from the strings, compile for use.

Not here: which language a page is in (``web/languages.py``).
"""

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from microblog_rt import files
from microblog_rt.errors import Misconfigured

KEYWORDS = {"_": None, "gettext": None, "N_": None, "ngettext": (1, 2)}
NOISE = rb"POT-Creation-Date|PO-Revision-Date|Generated-By|Report-Msgid-Bugs-To|Project-Id-Version"
PYTHON = [("**.py", "python")]
JINJA = [("**.html", "jinja2.ext:babel_extract")]
JINJA_OPTIONS = {"**.html": {"trimmed": "true", "silent": "false"}}


def catalogues() -> list[Path]:
    """Every language's catalogue as text."""
    return sorted(files.TRANSLATIONS.glob("*/LC_MESSAGES/messages.po"))


def update() -> Iterator[str]:
    """Merge the strings there are into every catalogue; says of each how many are untranslated."""
    if not (files.CHECKOUT / "templates").is_dir():
        raise Misconfigured("catalogues are updated in a checkout, not in an installed copy")
    for path in catalogues():
        catalogue = read(path)
        # A template of its own: what is new in it becomes part of the catalogue, and is filled in there.
        catalogue.update(extracted(), no_fuzzy_matching=True)
        if catalogue.locale_identifier == "en":
            _say_it_as_it_is(catalogue)
        path.write_bytes(as_text(catalogue))
        yield f"{catalogue.locale_identifier}: {len(untranslated(catalogue))} of {len(catalogue)} to translate"


def compile_all() -> Iterator[str]:
    """Write every catalogue in the form that is read at run time."""
    for path in catalogues():
        catalogue = read(path)
        path.with_suffix(".mo").write_bytes(compiled(catalogue))
        yield f"{catalogue.locale_identifier}: {len(catalogue)} strings"


def extracted() -> Catalog:
    """A catalogue of every string in the code and the templates, in their order."""
    found = Catalog(project="microblog-rt", fuzzy=False)
    places = [(files.PACKAGE, PYTHON, {}), (files.CHECKOUT / "templates", JINJA, JINJA_OPTIONS)]
    for folder, methods, options in places:
        for name, _, message, comments, context in extract_from_dir(
            folder, methods, options, keywords=KEYWORDS, comment_tags=()
        ):
            found.add(message, None, [(name, 0)], auto_comments=comments, context=context)
    return found


def read(path: Path) -> Catalog:
    """A catalogue out of its file."""
    with path.open("rb") as file:
        return read_po(file, locale=path.parent.parent.name)


def untranslated(catalogue: Catalog) -> list[str]:
    """The strings that a catalogue has no words for."""
    return [str(message.id) for message in catalogue if message.id and not _complete(message.string)]


def compiled(catalogue: Catalog) -> bytes:
    """The catalogue in its binary form."""
    # Its own date would make every compilation another file.
    catalogue.creation_date = datetime(2000, 1, 1, tzinfo=UTC)
    out = io.BytesIO()
    write_mo(out, catalogue)
    return out.getvalue()


def as_text(catalogue: Catalog) -> bytes:
    """The catalogue in its text form, without headers that would change at every update or say nothing."""
    out = io.BytesIO()
    write_po(out, catalogue, width=100, omit_header=False, include_lineno=False, ignore_obsolete=True)
    return re.sub(rb'"(%s):[^"]*"\n' % NOISE, b"", out.getvalue())


def _complete(string: object) -> bool:
    return all(string) if isinstance(string, (tuple, list)) else bool(string)


def _say_it_as_it_is(catalogue: Catalog) -> None:
    for message in catalogue:
        if message.id and not _complete(message.string):
            message.string = message.id

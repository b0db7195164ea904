"""The gettext catalogues, updated and compiled with Babel's ``pybabel``.

See also: ``web/languages.py``, which selects the language of a page.
"""

from collections.abc import Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from babel.messages.catalog import Catalog
from babel.messages.frontend import CommandLineInterface
from babel.messages.pofile import read_po

from microblog_rt import files
from microblog_rt.errors import Misconfigured

MAPPING = files.TRANSLATIONS / "babel.cfg"
FORMAT = ["--width=100"]
# The catalogues keep their own POT-Creation-Date, so that an update without new strings changes nothing.
UPDATE = ["--no-fuzzy-matching", "--ignore-obsolete", "--ignore-pot-creation-date", *FORMAT]


def catalogues() -> list[Path]:
    """The path of every language's catalogue (.po)."""
    return sorted(files.TRANSLATIONS.glob("*/LC_MESSAGES/messages.po"))


def extract(template: Path) -> None:
    """Write every string of the code and the templates to ``template`` (.pot)."""
    if not (files.CHECKOUT / "templates").is_dir():
        raise Misconfigured("catalogues are updated in a checkout, not in an installed copy")
    with chdir(files.CHECKOUT):  # for relative paths in the mapping and the comments
        _pybabel("extract", f"--mapping={MAPPING}", "--keywords=N_", "--add-location=file", f"--output={template}", ".")


def update() -> Iterator[str]:
    """Merge the current strings into every catalogue; yield how many are untranslated in each."""
    with TemporaryDirectory() as folder:
        template = Path(folder) / "messages.pot"
        extract(template)
        _pybabel("update", f"--input-file={template}", f"--output-dir={files.TRANSLATIONS}", *UPDATE)
    for path in catalogues():
        catalogue = read(path)
        yield f"{catalogue.locale_identifier}: {len(untranslated(catalogue))} of {len(catalogue)} to translate"


def compile_all() -> Iterator[str]:
    """Compile every catalogue (.mo); yield the number of strings in each."""
    _pybabel("compile", f"--directory={files.TRANSLATIONS}")
    for path in catalogues():
        catalogue = read(path)
        yield f"{catalogue.locale_identifier}: {len(catalogue)} strings"


def compile_to(path: Path, compiled: Path) -> None:
    """Compile one catalogue to the file ``compiled``."""
    _pybabel("compile", f"--input-file={path}", f"--output-file={compiled}", f"--locale={path.parent.parent.name}")


def read(path: Path) -> Catalog:
    """Parse a catalogue."""
    with path.open("rb") as file:
        return read_po(file, locale=path.parent.parent.name)


def untranslated(catalogue: Catalog) -> list[str]:
    """The message ids without a translation."""
    return [str(message.id) for message in catalogue if message.id and not all(_forms(message.string))]


def _forms(string: str | Sequence[str] | None) -> Sequence[str]:
    """The singular and the plural forms, or the only form."""
    return string if isinstance(string, (list, tuple)) else [str(string or "")]


def _pybabel(*arguments: str) -> None:
    if CommandLineInterface().run(["pybabel", "--quiet", *arguments]):  # type: ignore[no-untyped-call]
        raise Misconfigured(f"pybabel {arguments[0]} failed")

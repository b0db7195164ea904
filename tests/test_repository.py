"""Checks on the repository: imports, private names of dependencies, translations, file sizes, wording."""

import ast
import asyncio
import inspect
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import aiosqlite
import asyncpg
import pytest
from aiosqlite.core import _STOP_RUNNING_SENTINEL
from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from h11 import SERVER
from h11 import Connection as H11Connection
from h11._receivebuffer import ReceiveBuffer
from hypercorn import protocol
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import EventWrapper
from hypercorn.config import Config
from hypercorn.protocol import h11
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from microblog_rt import files, server, translations
from microblog_rt.errors import Refused
from microblog_rt.push import frames
from microblog_rt.push.request import LONGEST_HEAD
from microblog_rt.web import problems
from microblog_rt.web.preferences import LANGUAGES

ROOT = files.CHECKOUT


def test_imports_go_downwards_only() -> None:
    result = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert "6 kept, 0 broken" in result.stdout


def test_alembic_folder_is_not_a_package() -> None:
    """A package would shadow Alembic: Hypercorn and pytest put the working directory first on the path."""
    assert not (ROOT / "alembic" / "__init__.py").exists()


def test_hypercorn_toml_has_only_known_keys() -> None:
    """Hypercorn ignores unknown keys without a warning."""
    keys = re.findall(r"^(\w+) =", files.HYPERCORN.read_text(), re.MULTILINE)
    assert keys
    assert [key for key in keys if not hasattr(Config, key)] == []
    config = server.configuration()
    assert (config.h11_max_incomplete_size, config.backlog) == (LONGEST_HEAD, 2048)
    assert not config.include_server_header


def test_hypercorn_private_names_exist() -> None:
    assert inspect.iscoroutinefunction(h11.H11Protocol._check_protocol)
    assert inspect.iscoroutinefunction(h11.H11Protocol._create_stream)
    assert "H11Protocol(" in Path(str(protocol.__file__)).read_text()
    assert inspect.iscoroutinefunction(TCPServer._close)
    assert inspect.iscoroutinefunction(TCPServer._read_data)
    assert inspect.iscoroutinefunction(TCPServer._initiate_server_close)
    assert isinstance(EventWrapper()._event, asyncio.Event)


async def test_stream_reader_private_names_exist() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"x")
    reader.feed_eof()
    assert (reader._eof, reader.at_eof()) == (True, False)  # type: ignore[attr-defined]


def test_h11_private_names_exist() -> None:
    connection = H11Connection(SERVER)
    assert hasattr(connection, "_request_method")
    buffer = connection._receive_buffer
    assert type(buffer) is ReceiveBuffer
    buffer += b"a\r\n\r\nb"
    assert (bytes(buffer._data), buffer._multiple_lines_search) == (b"a\r\n\r\nb", 0)
    assert buffer.maybe_extract_lines() == [bytearray(b"a")]
    assert buffer._extract(1) == b"b"


def test_aiosqlite_private_names_exist() -> None:
    connection = aiosqlite.Connection(lambda: sqlite3.connect(":memory:"), 64)
    assert connection._thread.daemon is False
    assert hasattr(connection._tx, "put_nowait")
    assert inspect.iscoroutinefunction(aiosqlite.Connection._execute)
    assert isinstance(aiosqlite.Connection._conn, property)
    assert _STOP_RUNNING_SENTINEL is not None


def test_asyncpg_private_names_exist() -> None:
    assert callable(asyncpg.Connection._cancel_current_command)
    assert list(inspect.signature(asyncpg.Connection.__init__).parameters)[1:3] == ["protocol", "transport"]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
def test_text_frames_equal_those_of_wsproto(length: int) -> None:
    text = "é" * (length // 2) + "x" * (length % 2)
    connection = Connection(ConnectionType.SERVER)
    assert frames.frame(frames.TEXT, text.encode()) == connection.send(TextMessage(data=text))


@pytest.mark.parametrize("path", translations.catalogues(), ids=lambda path: path.parent.parent.name)
def test_catalogues_are_complete_and_compiled(path: Path, tmp_path: Path) -> None:
    catalogue = translations.read(path)
    assert translations.untranslated(catalogue) == []
    assert [each for each in catalogue if each.fuzzy and each.id] == []
    plurals = [each for each in catalogue if each.pluralizable]
    assert plurals
    assert [each.id for each in plurals if len(forms(each.string)) != catalogue.num_plurals] == []
    translations.extract(tmp_path / "messages.pot")
    with (tmp_path / "messages.pot").open("rb") as file:
        wanted = {message.id for message in read_po(file) if message.id}
    assert {message.id for message in catalogue if message.id} == wanted
    with path.with_suffix(".mo").open("rb") as file:
        assert strings(read_mo(file)) == strings(catalogue)
    translations.compile_to(path, tmp_path / "again.mo")
    assert (tmp_path / "again.mo").read_bytes() == path.with_suffix(".mo").read_bytes()
    for message in catalogue:
        assert placeholders(str(message.id)) == placeholders(str(message.string)) or not message.id, message.id


def test_missing_plural_form_counts_as_untranslated() -> None:
    catalogue = Catalog()
    catalogue.add(("one", "many"), ("uno", ""))
    assert len(translations.untranslated(catalogue)) == 1


def strings(catalogue: Catalog) -> dict[str, str]:
    return {str(forms(message.id)): str(forms(message.string)) for message in catalogue if message.id}


def forms(string: object) -> list[object]:
    """The singular and the plural forms, or the only form."""
    return list(string) if isinstance(string, (list, tuple)) else [string]


def placeholders(sentence: str) -> set[str]:
    return set(re.findall(r"%\(\w+\)s|\{\w+\}", sentence))


@pytest.mark.parametrize("name", ["es", "zh_Hant"])
def test_language_differs_from_english(name: str) -> None:
    """Few strings are the same in both languages."""
    (path,) = [path for path in translations.catalogues() if path.parent.parent.name == name]
    same = [str(message.id) for message in translations.read(path) if message.id and message.id == message.string]
    assert len(same) < 5, same


def test_each_language_has_a_catalogue() -> None:
    names = [path.parent.parent.name for path in translations.catalogues()]
    assert names == ["en", "es", "zh_Hant"]
    assert names == sorted(tag.replace("-", "_") for tag in LANGUAGES)


CHINESE_SPACING = re.compile(r"[\u4e00-\u9fff](?:[A-Za-z0-9]|%\(|\{)|(?:[A-Za-z0-9}]|\)s)[\u4e00-\u9fff]")
HALF_WIDTH = re.compile(r"[\u4e00-\u9fff][,.:;!?]|[“”]")


def test_chinese_is_spaced_and_punctuated_in_one_way() -> None:
    """As the glossary at the head of the catalogue says."""
    (path,) = [path for path in translations.catalogues() if path.parent.parent.name == "zh_Hant"]
    found = [str(form) for message in translations.read(path) if message.id for form in forms(message.string)]
    assert [each for each in found if CHINESE_SPACING.search(each) or HALF_WIDTH.search(each) or "您" in each] == []


def test_pages_load_nothing_from_other_hosts() -> None:
    pages = [*(ROOT / "templates").glob("*.html"), *(ROOT / "static/rt").glob("*.js"), *(ROOT / "static/css").glob("*")]
    assert len(pages) > 20
    for page in pages:
        assert not re.search(r"(src|href|url|from|import)\W{1,3}(https?:)?//", page.read_text()), page


def test_vendored_files_include_their_licence() -> None:
    assert "MIT" in (ROOT / "static/vendor/bootstrap/LICENSE").read_text()


def test_files_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "static/rt").glob("*.js")]
        if (lines := len(path.read_text().splitlines())) > 300
    }
    assert long == {}


def test_every_error_has_a_status_and_close_code() -> None:
    codes = {kind.code for kind in subclasses(Refused)}
    assert codes | {"unexpected"} == set(problems.ANSWERS)
    for code, (status, close_code) in problems.ANSWERS.items():
        assert close_code == {"draining": 1012, "unexpected": 1011}.get(code, 4000 + status)


def subclasses(kind: type[Refused]) -> set[type[Refused]]:
    return {kind}.union(*(subclasses(each) for each in kind.__subclasses__()))


AVOIDED = (
    "somebody",
    "nobody",
    "whoever",
    "whom",
    "is told",
    "was told",
    "are told",
    "were told",
    "word of",
    "in vain",
    "stands at",
    "taken leave",
    "grown old",
    "lest",
    "herd",
    "Not here:",
    "tells of",
    "who waits",
    "for ever",
    "left alone",
    "goodbye",
    "polite",
    "was away",
    "all the same",
    "house",
)
# Occurrences that are right: (file name, phrase).
ALLOWED: set[tuple[str, str]] = set()


def test_wording_is_plain() -> None:
    """Words of a literary style do not occur in code, comments, messages or documentation."""
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, AVOIDED)) + r")(?!\w)", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[1]}"
        for path in prose_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in pattern.finditer(line)
        if (path.name, match[1].lower()) not in ALLOWED
    ]
    assert found == [], "\n".join(found)


def prose_files() -> list[Path]:
    folders = {"src": ("*.py", "*.po"), "static/rt": ("*.js",), "docs": ("*.md", "*.yaml"), "templates": ("*.html",)}
    found = [path for folder, kinds in folders.items() for kind in kinds for path in (ROOT / folder).rglob(kind)]
    return sorted(found) + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]


def test_no_test_module_imports_another() -> None:
    """What several test modules need is in a named helper module."""
    offenders = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in [getattr(node, "module", None) or "", *(each.name for each in node.names)]
        if re.search(r"(^|\.)test_\w+$", name)
    ]
    assert offenders == []

"""The house: what must stay true of the repository itself."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from hypercorn.config import Config
from hypercorn.protocol import h2, h11, ws_stream
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from microblog_rt import files, server, translations
from microblog_rt.errors import Refused
from microblog_rt.server import websocket
from microblog_rt.web import problems

ROOT = files.CHECKOUT


def test_imports_go_downwards_only() -> None:
    result = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert "5 kept, 0 broken" in result.stdout


def test_alembics_folder_is_no_package() -> None:
    """It would shadow the installed Alembic: Hypercorn and pytest put the working directory first on the path."""
    assert not (ROOT / "alembic" / "__init__.py").exists()


def test_hypercorn_knows_every_key_of_its_settings() -> None:
    """It would accept an unknown one silently."""
    keys = re.findall(r"^(\w+) =", files.HYPERCORN.read_text(), re.MULTILINE)
    assert keys
    assert [key for key in keys if not hasattr(Config, key)] == []
    config = server.configuration()
    assert (config.websocket_max_message_size, config.backlog) == (4096, 2048)
    assert not config.include_server_header


def test_hypercorn_makes_its_handshakes_where_we_replace_them() -> None:
    """An upgrade of Hypercorn that moves them must not bring compression back unseen."""
    assert "Handshake(" in Path(ws_stream.__file__).read_text()
    names = {
        node.id for node in ast.walk(ast.parse(Path(ws_stream.__file__).read_text())) if isinstance(node, ast.Name)
    }
    assert {"Handshake", "PerMessageDeflate"} <= names


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
def test_our_text_frames_are_those_that_wsproto_would_make(length: int) -> None:
    text = "é" * (length // 2) + "x" * (length % 2)
    connection = Connection(ConnectionType.SERVER)
    assert websocket.text_frame(text) == connection.send(TextMessage(data=text))


def test_hypercorn_makes_its_streams_where_we_replace_them() -> None:
    """In HTTP/1.1 alone: over HTTP/2 a frame written straight to the transport would break the connection."""
    assert "WSStream(" in Path(str(h11.__file__)).read_text()
    websocket.install()
    assert vars(h11)["WSStream"] is websocket.PlainStream
    assert vars(h2)["WSStream"] is ws_stream.WSStream
    assert ws_stream.Handshake is websocket.PlainHandshake


@pytest.mark.parametrize("path", translations.catalogues(), ids=lambda path: path.parent.parent.name)
def test_every_string_is_translated_and_compiled(path: Path, tmp_path: Path) -> None:
    catalogue = translations.read(path)
    assert translations.untranslated(catalogue) == []
    assert [each for each in catalogue if each.fuzzy and each.id] == []
    translations.extract(tmp_path / "messages.pot")
    with (tmp_path / "messages.pot").open("rb") as file:
        wanted = {message.id for message in read_po(file) if message.id}
    assert {message.id for message in catalogue if message.id} == wanted
    with path.with_suffix(".mo").open("rb") as file:
        assert words(read_mo(file)) == words(catalogue)
    for message in catalogue:
        assert places(str(message.id)) == places(str(message.string)) or not message.id, message.id


def words(catalogue: Catalog) -> dict[str, str]:
    return {str(message.id): str(message.string) for message in catalogue if message.id}


def places(sentence: str) -> set[str]:
    return set(re.findall(r"%\(\w+\)s|\{\w+\}", sentence))


def test_spanish_is_not_english() -> None:
    """A word that is the same in both is rare."""
    (path,) = [path for path in translations.catalogues() if path.parent.parent.name == "es"]
    same = [str(message.id) for message in translations.read(path) if message.id and message.id == message.string]
    assert len(same) < 5, same


def test_english_and_spanish_are_spoken() -> None:
    assert [path.parent.parent.name for path in translations.catalogues()] == ["en", "es"]


def test_pages_ask_nobody_else_for_anything() -> None:
    pages = [*(ROOT / "templates").glob("*.html"), *(ROOT / "static/rt").glob("*.js"), *(ROOT / "static/css").glob("*")]
    assert len(pages) > 20
    for page in pages:
        assert not re.search(r"(src|href|url|from|import)\W{1,3}(https?:)?//", page.read_text()), page


def test_vendored_files_bring_their_licence() -> None:
    assert "MIT" in (ROOT / "static/vendor/bootstrap/LICENSE").read_text()


def test_files_stay_small() -> None:
    """A house worth living in: 40 to 200 lines, hardly ever over 400."""
    long = {
        str(path.relative_to(ROOT)): lines
        for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "static/rt").glob("*.js")]
        if (lines := len(path.read_text().splitlines())) > 300
    }
    assert long == {}


def test_every_refusal_has_its_place_in_the_table() -> None:
    codes = {kind.code for kind in kinds_of(Refused)}
    assert codes | {"unexpected"} == set(problems.ANSWERS)
    for code, (status, close_code) in problems.ANSWERS.items():
        assert close_code == {"draining": 1012, "unexpected": 1011}.get(code, 4000 + status)


def kinds_of(kind: type[Refused]) -> set[type[Refused]]:
    return {kind}.union(*(kinds_of(each) for each in kind.__subclasses__()))

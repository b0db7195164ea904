"""The recipe docs/recipes/flask_microblog.md: its commands as they are printed, and the addresses that stay."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest

from microblog_rt import files
from tests.http_client import Person
from tests.ports import free_port
from tests.tutorial_database import PASSWORDS, filled

if TYPE_CHECKING:
    from tests.server_process import Server

RECIPE = (files.CHECKOUT / "docs" / "recipes" / "flask_microblog.md").read_text()
DRY_RUN, MOVE = re.findall(r"^```sh\n(.+?)^```", RECIPE, re.MULTILINE | re.DOTALL)
(OUTPUT,) = re.findall(r"^```text\n(.+?)^```", RECIPE, re.MULTILINE | re.DOTALL)
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("MICROBLOG_")}
ENVIRON["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


class Site(NamedTuple):
    """What a browser needs of a server."""

    url: str
    password: str


@pytest.fixture
def moved(tmp_path: Path) -> Iterator[str]:
    """The address of the server that the recipe starts, in a folder with the tutorial's database."""
    filled(tmp_path / "app.db").close()
    dry = subprocess.run(["bash", "-euc", DRY_RUN], cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
    assert "".join([*shown(dry.stderr.splitlines(keepends=True)), dry.stdout]) == OUTPUT
    assert "127.0.0.1:5000" in MOVE
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        ["bash", "-euc", MOVE.replace("127.0.0.1:5000", address)],
        cwd=tmp_path,
        env=ENVIRON,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "Imported 3 users, 8 messages, 2 posts, 3 follows and 1 notification.\n"
            assert f"Serving http://{address} " in process.stdout.readline()
            yield f"http://{address}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def shown(lines: list[str]) -> list[str]:
    """Standard error without the security log, which is there on machines without a system log."""
    return [line for line in lines if "microblog_rt.security" not in line]


def test_recipe_moves_the_data_and_addresses_stay(moved: str) -> None:
    susan, john = (Person(cast("Server", Site(moved, PASSWORDS[name])), name) for name in ("susan", "john"))
    page = susan.client.get("/messages?list=received").text
    assert "at the same time as the one before" in page
    assert 'href="/send_message/john' in susan.client.get("/user/john").text
    polled = susan.client.get("/notifications", params={"since": 0}).json()
    assert [(each["name"], each["data"]) for each in polled] == [
        ("unread_message_count", 2),
        ("task_progress", {"task_id": "0a1b", "progress": 100}),
    ]
    before_the_move = 1709373602.5  # a cursor of the tutorial's application
    assert susan.client.get("/notifications", params={"since": before_the_move}).json() == polled
    john.send("susan", "hello")
    (count,) = susan.client.get("/notifications", params={"since": polled[-1]["timestamp"]}).json()
    assert (count["name"], count["data"]) == ("unread_message_count", 3)
    home = susan.client.get("/index").text
    assert "my first post" in home
    assert "hola" not in home, "susan does not follow maria"
    assert "I like cats" in john.client.get("/user/susan").text
    for person in (susan, john):
        person.close()


def test_links_of_the_recipe_resolve() -> None:
    for target in re.findall(r"\]\(([^)\s#]+)", RECIPE):
        assert (files.CHECKOUT / "docs" / "recipes" / target).exists(), target

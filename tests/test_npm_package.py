"""The npm package without a browser: its contents, its version and its types. See also: browser/test_npm_package.py."""

import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from microblog_rt import __version__, files
from microblog_rt.web import static_files
from tests import npm_package
from tests.npm_package import SOURCE

# TypeScript of a site that uses the package; the second part has one mistake in each statement.
SITE = """
import { connect, type Connection, type Notification, type State } from "microblog-rt";
import { UnreadBadge } from "microblog-rt/unread-badge";

const url = "https://chat.example.org";
const received: Notification[] = [];
const connection: Connection = connect({
  url,
  token: "t0ken",
  since: 12.5,
  names: ["mentions"],
  target: document,
  apply: (notifications) => received.push(...notifications),
});
connect({ url: new URL(url), cookies: true });
connect({ url, token: async () => "t0ken", heartbeat: 5 });
const state: State = connection.state;
const next: number = connection.since;
connection.addEventListener("microblog:state", ({ detail }) => detail === "signed-out");
document.addEventListener("microblog:notification", ({ detail }) => detail.name.length + detail.timestamp);
connection.close();
const badge = document.createElement("unread-badge");
badge.token = () => "t0ken";
const count: number = badge.count;
const same: boolean = badge instanceof UnreadBadge;
export { count, next, same, state };
"""
MISTAKES = """
import { connect } from "microblog-rt";

const url = "https://chat.example.org";
connect({ url });
connect({ url, token: "t0ken", cookies: true });
connect({ url, token: 7 });
connect({ url, token: "t0ken", since: "12.5" });
connect({ url, token: "t0ken", apply: (notification: string) => notification });
connect({ url, token: "t0ken" }).since = 5;
connect({ url, token: "t0ken" }).state === "broken";
document.createElement("unread-badge").count = 1;
document.addEventListener("microblog:notification", ({ detail }) => detail.missing);
"""
LICENCE_AND_TEXTS = {"LICENSE", "README.md", "package.json", "index.d.ts", "unread_badge.d.ts"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return npm_package.pack(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def site(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed from the packed file."""
    folder = tmp_path_factory.mktemp("site")
    npm_package.install(packed, folder)
    return folder


def test_packed_file_has_the_imported_modules_and_nothing_else(packed: Path) -> None:
    with tarfile.open(packed) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
    entries = [f"rt/{each['default'].removeprefix('./')}" for each in _entries()]
    modules = {name.removeprefix("rt/") for entry in entries for name in static_files.modules(entry)}
    assert len(modules) > 10
    assert names == modules | LICENCE_AND_TEXTS


def test_version_and_licence_are_those_of_the_python_package() -> None:
    manifest = npm_package.manifest()
    assert manifest["version"] == __version__
    assert manifest["license"] == "MIT"
    assert (SOURCE / "LICENSE").read_bytes() == (files.CHECKOUT / "LICENSE").read_bytes()


def test_readme_installs_the_current_version() -> None:
    """The commands pack and install the file that is tested."""
    shell = re.search(r"```sh\n(.*?)```", (SOURCE / "README.md").read_text(), re.DOTALL)
    assert shell
    assert shell[1].splitlines() == ["npm pack ./static/rt", f"npm install ./microblog-rt-{__version__}.tgz"]


def test_package_imports_in_node_without_a_browser(site: Path) -> None:
    """Servers that render pages import the modules too."""
    code = 'import * as a from "microblog-rt"; import * as b from "microblog-rt/unread-badge"; '
    code += "console.log(Object.keys(a).join(), Object.keys(b).join());"
    result = subprocess.run(
        ["node", "--input-type=module", "--eval", code], cwd=site, check=True, capture_output=True, text=True
    )
    assert result.stdout.split() == ["connect", "UnreadBadge"]
    assert result.stderr == ""


@pytest.mark.parametrize("entry", ["index", "unread_badge"])
def test_types_declare_the_exported_names(entry: str) -> None:
    exported = re.findall(r"^export (?:function|class) (\w+)", (SOURCE / f"{entry}.js").read_text(), re.MULTILINE)
    declared = re.findall(r"^export (?:function|class) (\w+)", (SOURCE / f"{entry}.d.ts").read_text(), re.MULTILINE)
    assert exported
    assert exported == declared


def test_types_accept_what_works_and_refuse_mistakes(site: Path) -> None:
    (site / "site.ts").write_text(SITE)
    (site / "mistakes.ts").write_text(MISTAKES)
    command = [
        "tsc",
        "--strict",
        "--noEmit",
        "--target",
        "es2022",
        "--module",
        "node16",
        "--moduleResolution",
        "node16",
    ]
    result = subprocess.run(
        [*command, "--lib", "es2022,dom", "site.ts", "mistakes.ts"], cwd=site, capture_output=True, text=True
    )
    found = {int(line) for line in re.findall(r"^mistakes\.ts\((\d+),", result.stdout, re.MULTILINE)}
    first = MISTAKES[: MISTAKES.index("connect({ url });")].count("\n") + 1
    assert found == set(range(first, len(MISTAKES.splitlines()) + 1)), result.stdout
    assert [line for line in result.stdout.splitlines() if line.startswith(("site.ts", "node_modules"))] == []


def _entries() -> list[dict[str, str]]:
    exports = npm_package.manifest()["exports"]
    return [each for each in exports.values() if isinstance(each, dict)]

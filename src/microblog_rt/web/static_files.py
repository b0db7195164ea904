"""Static files, under addresses that contain a hash of all of them, so that a browser never asks for one twice.

Modules import each other by relative addresses, and so stay within one version.
"""

import re
import shutil
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from markupsafe import Markup
from quart import Quart, Response, request, send_from_directory, url_for

from microblog_rt import files

ENDPOINT = "static"
IMMUTABLE = "max-age=31536000, immutable"
PRELOAD = Markup('<link rel="modulepreload" href="{}">')
SCRIPT = Markup('<script type="module" src="{}"></script>')
IMPORT = re.compile(r'^import .* from "\./([\w.]+)";$', re.MULTILINE)


def init(app: Quart) -> None:
    """Serve the files, and give templates ``script(entry)``: the elements that load a module script.

    The modules that it imports are fetched at the same time, not one after the other.
    """

    @app.get("/static/<version>/<path:filename>", endpoint=ENDPOINT)
    async def static(version: str, filename: str) -> Response:
        # Also for another version: during an upgrade, pages of one host load their files from another one.
        return await send_from_directory(files.STATIC, filename)

    @app.url_defaults
    def add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == ENDPOINT:
            values.setdefault("version", current_version())

    @cache  # rendered for each page, they would take a fifth of its time (measured)
    def elements(_root_path: str, entry: str) -> Markup:
        url, *imported = [url_for(ENDPOINT, filename=each) for each in modules(entry)]
        preloads = [PRELOAD.format(each) for each in imported]
        return Markup("\n").join([*preloads, SCRIPT.format(url)])

    app.jinja_env.globals["script"] = lambda entry: elements(request.root_path, entry)


def cache_control(response: Response) -> str:
    """The Cache-Control of a response of this application."""
    own = request.endpoint == ENDPOINT and (request.view_args or {}).get("version") == current_version()
    return IMMUTABLE if own and response.status_code < 400 else "no-store"


def copy(folder: Path) -> Path:
    """Copy the files to a folder in ``folder`` that is named after their version, for a proxy that serves them."""
    target = folder / current_version()
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as part:  # renamed at the end, so that the folder is never incomplete
            shutil.copytree(files.STATIC, Path(part) / "copy", copy_function=shutil.copyfile)
            (Path(part) / "copy").rename(target)
        for path in (target, *target.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    return target


@cache
def current_version() -> str:
    """A hash of the names and contents of all static files."""
    digest = sha256()
    for path in sorted(each for each in files.STATIC.rglob("*") if each.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(files.STATIC).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


@cache
def modules(entry: str) -> list[str]:
    """``entry`` and the modules that it imports, directly or not: names of static files in the order of imports."""
    folder = Path(entry).parent
    found = [entry]
    for name in found:
        imported = IMPORT.findall((files.STATIC / name).read_text())
        found += [path for each in imported if (path := str(folder / each)) not in found]
    return found

"""The data folders, inside the package when installed from a wheel, beside ``src`` in a checkout; and private files."""

import contextlib
import os
from pathlib import Path

from microblog_rt.errors import Misconfigured

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parents[1]


def find(installed: str, checkout: str | None = None) -> Path:
    """The file or folder called ``installed`` in the package, or ``checkout`` at the top of a checkout."""
    inside = PACKAGE / installed
    return inside if inside.exists() else CHECKOUT / (checkout or installed)


STATIC = find("static")
TEMPLATES = find("templates")
MIGRATIONS = find("migrations", "alembic")
HYPERCORN = find("hypercorn.toml")
OPENAPI = PACKAGE / "openapi.json"  # made from docs/openapi.yaml by ``python -m tests.openapi_document``
TRANSLATIONS = PACKAGE / "translations"

OTHERS = 0o077  # the permissions of other users


def create_private_database(path: Path) -> None:
    """Create an empty SQLite file for its owner alone, whatever the umask, unless it exists.

    SQLite gives the files beside it the same permissions.
    """
    with contextlib.suppress(FileExistsError, FileNotFoundError, PermissionError):  # SQLite says what is wrong
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def make_database_private(path: Path) -> None:
    """Take the permissions of other users away from an SQLite file and those beside it.

    Raises Misconfigured with the command to run if this user may not.
    """
    for each in (path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal"))):
        with contextlib.suppress(FileNotFoundError):
            mode = each.stat().st_mode
            if mode & OTHERS:
                try:
                    each.chmod(mode & ~OTHERS)
                except PermissionError:
                    raise Misconfigured(
                        f"other users can read {each}, and this user may not change that; run as its owner: "
                        f"chmod 600 {each}"
                    ) from None

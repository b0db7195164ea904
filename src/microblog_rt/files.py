"""The data folders: inside the package when installed from a wheel, beside ``src`` in a checkout."""

from pathlib import Path

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
TRANSLATIONS = PACKAGE / "translations"

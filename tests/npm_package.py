"""The npm package: packed from ``static/rt``, and installed from the packed file into a folder of its own."""

import json
import subprocess
from pathlib import Path
from typing import Any

from microblog_rt import files

SOURCE = files.STATIC / "rt"


def manifest() -> dict[str, Any]:
    """Its package.json."""
    content: dict[str, Any] = json.loads((SOURCE / "package.json").read_text())
    return content


def pack(folder: Path) -> Path:
    """Pack it into ``folder``; the path of the packed file."""
    # Without a configuration of the user, which could name another registry, and without asking for a newer npm.
    command = ["npm", "pack", str(SOURCE), "--json", "--userconfig=/dev/null", "--no-update-notifier"]
    result = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    filename: str = json.loads(result.stdout)[0]["filename"]
    return folder / filename


def install(packed: Path, folder: Path) -> Path:
    """Install the packed file in ``folder`` without a network; the installed package."""
    (folder / "package.json").write_text('{ "private": true, "type": "module" }\n')
    command = ["npm", "install", str(packed), "--offline", "--no-audit", "--no-fund", "--userconfig=/dev/null"]
    subprocess.run([*command, "--no-update-notifier"], cwd=folder, check=True, capture_output=True)
    return folder / "node_modules" / "microblog-rt"

"""The commands ``microblog-rt import``, added to those of ``cli.py``."""

from pathlib import Path

import click

from microblog_rt.cli import run_with_services
from microblog_rt.client_commands import main
from microblog_rt.errors import Misconfigured
from microblog_rt.imports import Import, carry_out, counted, flask_microblog
from microblog_rt.imports.tutorial_file import opened
from microblog_rt.services import Services
from microblog_rt.timeouts import Timeouts

__all__ = ["main"]

# One long transaction, for which no client waits.
PATIENT = Timeouts(database_silence=600.0, sqlite_busy=30.0, postgres_lock=30.0)


@main.group("import")
def import_group() -> None:
    """Import the data of another application."""


@import_group.command("flask-microblog")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show what would be imported.")
@click.option("--skip", is_flag=True, help="Import the rest if something cannot be imported.")
def flask_microblog_command(file: Path, dry_run: bool, skip: bool) -> None:
    """Import users, messages and notifications of the Flask tutorial's application from its SQLite database FILE.

    All of it or nothing. FILE is only read. Users keep their passwords.
    """

    async def work(services: Services) -> Import:
        with opened(file) as tutorial:
            found = await flask_microblog.read(tutorial)
        _report(found)
        if found.losses and not (skip or dry_run):
            raise Misconfigured(
                f"{counted(found.losses, 'row')} cannot be imported; nothing was imported. Correct FILE, or use --skip"
            )
        await carry_out(found, services.storage, dry_run=dry_run)
        return found

    found = run_with_services(work, PATIENT)
    click.echo(f"Would import {found}; nothing was written." if dry_run else f"Imported {found}.")


def _report(found: Import) -> None:
    for line in found.notes:
        click.echo(line, err=True)
    for line in found.losses:
        click.echo(f"Cannot be imported: {line}", err=True)
    if found.left:
        click.echo(f"{', '.join(found.left)}: not imported", err=True)

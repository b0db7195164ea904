"""The command line, ``microblog-rt``."""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from microblog_rt import __version__, app, demo, logs, secret_key, security_log, server, settings
from microblog_rt import restored as restoring
from microblog_rt.errors import Misconfigured, Refused
from microblog_rt.server import listening
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import migrations
from microblog_rt.timeouts import Timeouts
from microblog_rt.web import static_files
from microblog_rt.web.sentences import sentence

log = logging.getLogger(__name__)

T = TypeVar("T")


class Commands(click.Group):
    """Prints an expected error as one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (Misconfigured, Refused) as error:
            raise click.ClickException(sentence(error) if isinstance(error, Refused) else str(error)) from None
        except UnicodeError:
            raise click.ClickException("arguments and input must be UTF-8") from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="microblog-rt")
def main() -> None:
    """A small microblog whose unread badge is live and always right."""


@main.command()
@click.option(
    "--bind",
    "binds",
    multiple=True,
    default=["127.0.0.1:8000"],
    show_default=True,
    metavar="HOST:PORT|unix:PATH|systemd",
    help="Can be given several times.",
)
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes; several need a bus."
)
@click.option("--demo", "demo_kind", is_flag=False, flag_value="full", type=click.Choice(demo.KINDS), help=demo.HELP)
def serve(binds: tuple[str, ...], workers: int, demo_kind: str | None) -> None:
    """Serve until SIGTERM, SIGHUP or Ctrl-C; a second one stops without waiting for open tabs."""
    hosts = listening.hosts(binds)
    chosen = replace(chosen_settings(), bind_hosts=hosts)
    logs.begin(chosen.log, several=workers > 1)
    for line in settings.warnings(chosen):
        log.warning(line)
    if demo_kind and not all(map(listening.is_loopback, hosts)):
        raise Misconfigured("--demo creates accounts whose password is printed, so it requires a loopback address")
    if workers > 1 and chosen.bus_url == settings.MEMORY:
        raise Misconfigured(f"--workers {workers} needs a bus to connect them: MICROBLOG_BUS_URL={_some_bus(chosen)}")
    _warn_of_plain_http(chosen)
    _prepare_database(chosen)
    secret_key.secret_keys(chosen)
    with ExitStack() as stack:
        sockets = [stack.enter_context(each) for each in server.listen_all(binds)]
        urls = [chosen.public_url] if chosen.public_url else map(listening.url, sockets)
        lines = [f"Serving {' and '.join(url + chosen.path_prefix for url in urls)} (press Ctrl-C to stop)"]
        prepared = _demo(chosen, demo_kind) if demo_kind else demo.Demo([])
        chosen = replace(chosen, demo=prepared.account)
        lines += prepared.lines

        def work(ready: server.Announce) -> None:
            site = app.create_app(chosen, tasks=prepared.tasks)
            parts = site.extensions["services"], site.extensions["admission"], site.extensions["direct"]
            server.run(server.serve(site, *parts, sockets, chosen, ready, supervised=workers > 1), chosen)

        def announce(*_: object) -> None:
            click.echo("\n".join(lines))

        if workers == 1:
            work(announce)
        else:
            sys.exit(server.supervise(work, workers, sockets, chosen.drain, announce))


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def static(folder: Path) -> None:
    """Copy the static files to FOLDER/VERSION, for a proxy that serves /static/ from FOLDER. Older versions stay."""
    try:
        click.echo(f"The static files are in {static_files.copy(folder)}.")
    except OSError as error:
        raise Misconfigured(f"cannot copy to {folder}: {error.strerror}") from None


@main.group()
def db() -> None:
    """Manage the database."""


@db.command()
def upgrade() -> None:
    """Migrate the database to this program's revision."""
    chosen = chosen_settings()
    _log_command()
    migrations.upgrade(chosen.database_url)
    click.echo(f"The database is at {migrations.head()}.")


@db.command()
def current() -> None:
    """Print the revision of the database, and of this program."""
    revision = migrations.current(chosen_settings().database_url)
    click.echo(f"{revision or 'empty'} (newest: {migrations.head()})")


@db.command()
@click.option(
    "--ahead",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0, 86400),
    help="How far, in seconds, the clocks before the restore may have been ahead of this one.",
)
def restored(ahead: float) -> None:
    """Send the state of a restored backup to every client. Safe to run again."""
    users = run_with_services(lambda services: restoring.restored(services.storage, services.mailboxes, ahead))
    click.echo(f"Restamped the notifications of {users} users.")


@main.group()
def user() -> None:
    """Manage accounts."""


@user.command()
@click.argument("name")
@click.option("--email", help="Optional.")
def add(name: str, email: str | None) -> None:
    """Create an account; the password is prompted for, or read as one line from standard input."""
    new_password = _password()
    run_with_services(lambda services: services.accounts.register(name, new_password, email))
    click.echo(f"{name} can sign in.")


@user.command()
@click.argument("name")
def password(name: str) -> None:
    """Set an account's password and end its sessions; prompted for, or read as one line from standard input."""
    new_password = _password()
    run_with_services(lambda services: services.accounts.set_password(name, new_password))
    click.echo(f"{name} has a new password; all their sessions have ended.")


@user.command()
@click.argument("name")
def disable(name: str) -> None:
    """Disable an account and end its sessions."""
    run_with_services(lambda services: services.accounts.disable(name))
    click.echo(f"{name} is disabled; all their sessions have ended.")


@user.command()
@click.argument("name")
def withdraw(name: str) -> None:
    """Delete every message that an account has sent; open pages show them until they are loaded again.

    Disable the account first, so that it sends no more.
    """

    async def work(services: Services) -> int:
        return await services.messages.withdraw((await services.accounts.known(name)).id)

    withdrawn = run_with_services(work)
    click.echo(f"Deleted {withdrawn} messages that {name} had sent.")


@user.command()
@click.argument("name")
def enable(name: str) -> None:
    """Enable a disabled account."""
    run_with_services(lambda services: services.accounts.enable(name))
    click.echo(f"{name} can sign in.")


@main.command()
def shell() -> None:
    """Start a Python prompt with the models, the services and a session; ``await`` works in it."""
    from microblog_rt.shell import interact

    chosen = chosen_settings()
    _log_command()
    migrations.check(chosen.database_url)
    interact(assemble(chosen))


@main.group()
def translate() -> None:
    """Maintain the translation catalogues; only in a checkout."""


@translate.command("update")
def translate_update() -> None:
    """Update every catalogue from the strings in the code and the templates."""
    from microblog_rt import translations

    click.echo("\n".join(translations.update()))


@translate.command("compile")
def translate_compile() -> None:
    """Compile every catalogue."""
    from microblog_rt import translations

    click.echo("\n".join(translations.compile_all()))


@cache
def chosen_settings() -> Settings:
    for name in settings.unknown(os.environ):
        click.echo(f"Warning: {name} is not a setting of microblog-rt; ignored.", err=True)
    return Settings.from_environ(os.environ)


def _prepare_database(chosen: Settings) -> None:
    if chosen.default_database:
        migrations.upgrade(chosen.database_url)
    else:
        migrations.check(chosen.database_url)


def _warn_of_plain_http(chosen: Settings) -> None:
    public = sorted(host for host in chosen.bind_hosts if not listening.is_loopback(host))
    if chosen.public_url is None and public:
        log.warning(
            "plain http on %s: passwords and messages can be read on the network. Put a proxy with TLS in front, set "
            "MICROBLOG_PUBLIC_URL=https://HOST, and let only the proxy reach this address",
            ", ".join(public),
        )


def _some_bus(chosen: Settings) -> str:
    return settings.POSTGRESQL_BUS if chosen.sqlite_file is None else settings.SQLITE_BUS


def _log_command() -> None:
    """Write the operator's command to the security log, and prepare that log for what the command does."""
    context = click.get_current_context()
    if context.info_name != "serve":  # which has begun to log
        security_log.log.addHandler(security_log.system_log())
        security_log.log.setLevel(logging.INFO)
    security_log.origin.set("command line")
    security_log.note("command", command=context.command_path, user=context.params.get("name"), uid=os.getuid())


def run_with_services(work: Callable[[Services], Awaitable[T]], timeouts: Timeouts = Timeouts()) -> T:
    chosen = chosen_settings()
    _log_command()
    _prepare_database(chosen)

    async def run() -> T:
        services = assemble(chosen, timeouts)
        try:
            return await work(services)
        finally:
            await services.close()

    return asyncio.run(run())


def _demo(chosen: Settings, kind: str) -> demo.Demo:
    key = secret_key.secret_keys(chosen)[0]
    return run_with_services(lambda services: demo.prepare(services, key, only_accounts=kind == "accounts"))


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n") or _no_password()


def _no_password() -> NoReturn:
    raise Misconfigured("no password: give it as one line on standard input, or run this in a terminal")

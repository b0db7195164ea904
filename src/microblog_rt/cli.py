"""The command ``microblog-rt``. Not here: what the commands do once they are understood."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from typing import NoReturn, TypeVar

import click

from microblog_rt import __version__, app, demo, logs, secret_key, server, settings
from microblog_rt import restored as restoring
from microblog_rt.errors import Misconfigured, Refused
from microblog_rt.server import listening
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import migrations
from microblog_rt.web.sentences import sentence

T = TypeVar("T")


class Commands(click.Group):
    """Says what is wrong in one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (Misconfigured, Refused) as error:
            raise click.ClickException(sentence(error) if isinstance(error, Refused) else str(error)) from None
        except UnicodeError:
            raise click.ClickException("what was given is not UTF-8") from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="microblog-rt")
def main() -> None:
    """A small microblog whose unread badge is live and always right."""


@main.command()
@click.option("--bind", default="127.0.0.1:8000", show_default=True, metavar="HOST:PORT|systemd")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes; two want a bus.")
@click.option("--demo", "with_demo", is_flag=True, help="Make two accounts to try it with; on loopback alone.")
def serve(bind: str, workers: int, with_demo: bool) -> None:
    """Serve until SIGTERM or Ctrl-C; a second one ends it without waiting for tabs to leave."""
    host = listening.host(bind)
    chosen = replace(_settings(), bind_host=host)
    logs.begin(chosen.log, several=workers > 1)
    if with_demo and not listening.is_loopback(host):
        raise Misconfigured("--demo makes accounts whose password is printed: only on loopback, as 127.0.0.1")
    if workers > 1 and chosen.bus_url == settings.MEMORY:
        raise Misconfigured(f"--workers {workers} wants a bus between them: set MICROBLOG_BUS_URL={_some_bus(chosen)}")
    _look_at_database(chosen)
    secret_key.secret_key(chosen)
    with server.listen(bind) as socket:
        said = [f"Serving {chosen.public_url or listening.url(socket)} (Ctrl-C ends it)"]
        if with_demo:
            said += _demo_accounts(chosen)

        def work(ready: server.Announce) -> None:
            application = app.create_app(chosen)
            hub = application.extensions["services"].hub
            serving = server.serve(application, hub, socket, chosen.drain, ready, supervised=workers > 1)
            asyncio.run(serving)

        def announce(*_: object) -> None:
            click.echo("\n".join(said))

        if workers == 1:
            work(announce)
        else:
            sys.exit(server.supervise(work, workers, socket, chosen.drain, announce))


@main.group()
def db() -> None:
    """The database."""


@db.command()
def upgrade() -> None:
    """Bring the database to this program's revision."""
    chosen = _settings()
    migrations.upgrade(chosen.database_url)
    click.echo(f"The database is at {migrations.head()}.")


@db.command()
def current() -> None:
    """Tell the database's revision, and this program's."""
    revision = migrations.current(_settings().database_url)
    click.echo(f"{revision or 'empty'} (newest: {migrations.head()})")


@db.command()
@click.option(
    "--ahead",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0, 86400),
    help="Seconds that the clocks before the restoring may have been ahead of this one.",
)
def restored(ahead: float) -> None:
    """Tell every client the state of a backup that was restored, whatever it knows; may be run again."""
    users = _with_parts(lambda services: restoring.restored(services.storage, services.mailboxes, ahead))
    click.echo(f"{users} users are told what the database holds now.")


@main.group()
def user() -> None:
    """Accounts."""


@user.command()
@click.argument("name")
@click.option("--email", help="Optional.")
def add(name: str, email: str | None) -> None:
    """Make an account; the password is asked for, or one line on standard input."""
    word = _password()
    _with_parts(lambda services: services.accounts.register(name, word, email))
    click.echo(f"{name} can sign in.")


@user.command()
@click.argument("name")
def password(name: str) -> None:
    """Set an account's password and end its sessions; asked for, or one line on standard input."""
    word = _password()
    _with_parts(lambda services: services.accounts.set_password(name, word))
    click.echo(f"{name} has a new password; every session of theirs has ended.")


@user.command()
@click.argument("name")
def disable(name: str) -> None:
    """Keep an account from signing in, and end its sessions."""
    _with_parts(lambda services: services.accounts.disable(name))
    click.echo(f"{name} is disabled; every session of theirs has ended.")


@user.command()
@click.argument("name")
def enable(name: str) -> None:
    """Let a disabled account sign in again."""
    _with_parts(lambda services: services.accounts.enable(name))
    click.echo(f"{name} can sign in.")


@main.command()
def shell() -> None:
    """A Python prompt with the models and a session at hand; ``await`` works in it."""
    from microblog_rt.shell import interact

    chosen = _settings()
    migrations.check(chosen.database_url)
    interact(assemble(chosen))


@main.group()
def translate() -> None:
    """The catalogues of other languages; in a checkout alone."""


@translate.command("update")
def translate_update() -> None:
    """Bring every catalogue up to date with the strings in the code and the templates."""
    from microblog_rt import translations

    for line in translations.update():
        click.echo(line)


@translate.command("compile")
def translate_compile() -> None:
    """Compile every catalogue for use."""
    from microblog_rt import translations

    for line in translations.compile_all():
        click.echo(line)


@cache
def _settings() -> Settings:
    for name in settings.unknown(os.environ):
        click.echo(f"Warning: {name} is no setting of microblog-rt, and is not looked at.", err=True)
    return Settings.from_environ(os.environ)


def _look_at_database(chosen: Settings) -> None:
    if chosen.default_database:
        migrations.upgrade(chosen.database_url)
    else:
        migrations.check(chosen.database_url)


def _some_bus(chosen: Settings) -> str:
    return settings.POSTGRESQL_BUS if chosen.sqlite_file is None else settings.SQLITE_BUS


def _with_parts(work: Callable[[Services], Awaitable[T]]) -> T:
    chosen = _settings()
    _look_at_database(chosen)

    async def run() -> T:
        services = assemble(chosen)
        try:
            return await work(services)
        finally:
            await services.close()

    return asyncio.run(run())


def _demo_accounts(chosen: Settings) -> list[str]:
    key = secret_key.secret_key(chosen)
    names = _with_parts(lambda services: demo.prepare(services.accounts, key))
    said = [f"Demo accounts: {' and '.join(names)}, password {demo.password(key)}"] if names else []
    others = sorted(set(demo.NAMES) - set(names))
    return said + [f"{name} is an account with a password of its own, and was left alone." for name in others]


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n") or _no_password()


def _no_password() -> NoReturn:
    raise Misconfigured("no password: give it as one line on standard input, or run this in a terminal")

"""The commands of a client, added to those of ``cli.py``: listen, send, notify, status.

See also: ``docs/clients.md``, which has the exit statuses.
"""

import asyncio
import json
import math
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

import click

from microblog_rt.errors import Misconfigured
from microblog_rt.notifications import Publication
from microblog_rt.services import Services
from microblog_rt.token_commands import main, run_with_services

if TYPE_CHECKING:
    from microblog_rt.client import Client, Notification, Status
    from microblog_rt.client.probe import Probed

__all__ = ["main"]

INTERRUPTED = 130  # exit status
CONNECT_TIMEOUT = 30.0  # seconds
TRANSPORTS = ("websocket", "sse", "longpoll", "poll")

T = TypeVar("T")


class Failed(click.ClickException):
    """An expected failure, for which a script may have a plan."""


class Rejected(Failed):
    """The session has ended, or this is not allowed."""

    exit_code = 3


class Unreachable(Failed):
    """No response of the server."""

    exit_code = 4


class Target(NamedTuple):
    """The server and the token of a command; no ``url``: the database of this machine."""

    url: str | None
    token: str | None


def of_a_server(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options ``--url`` and ``--token``."""
    url = click.option("--url", metavar="URL", envvar="MICROBLOG_URL", show_envvar=True, help="The server.")
    private = "An access token. In the environment, other users of the machine cannot see it."
    token = click.option("--token", metavar="TOKEN", envvar="MICROBLOG_TOKEN", show_envvar=True, help=private)
    return url(token(command))


@main.command()
@of_a_server
@click.option("--since", default=0.0, type=click.FloatRange(min=0), help="Only what is newer than this timestamp.")
@click.option("--name", "names", multiple=True, help="Only this notification; can be given several times.")
@click.option("--transport", type=click.Choice(TRANSPORTS), help="Use it alone, and poll while it fails.")
@click.option("--exec", "shell", metavar="CMD", help="Run a shell command for each, with the notification as input.")
def listen(
    url: str | None, token: str | None, since: float, names: Sequence[str], transport: str | None, shell: str | None
) -> None:
    """Print notifications as JSON lines: the latest of each name, then each new one, until Ctrl-C.

    The ``timestamp`` of the last line is where ``--since`` continues.
    """
    if not math.isfinite(since):
        raise click.BadParameter("not a finite number", param_hint="--since")

    async def work(client: "Client") -> None:
        async for each in client.notifications(since, names):
            _show(each)
            if shell is not None:
                await _execute(shell, each)

    transports = {"transports": [transport]} if transport else {}
    _run(work, _remote(url, token), on_status=_progress(), connect_timeout=CONNECT_TIMEOUT, **transports)


@main.command()
@of_a_server
@click.option("--from", "sender", metavar="NAME", help="The sender, with the database of this machine.")
@click.argument("recipient")
@click.argument("text")
def send(url: str | None, token: str | None, sender: str | None, recipient: str, text: str) -> None:
    """Send a message; without --url directly in the database of this machine."""
    if url is not None:
        if sender is not None:
            raise click.UsageError("--from is for the database of this machine; with --url the token names the sender")
        _run(lambda client: client.send(recipient, text), _remote(url, token))
        return
    if sender is None:
        raise click.UsageError("give --url and --token, or --from NAME to use the database of this machine")

    async def work(services: Services) -> None:
        author = await services.accounts.known(sender)
        await services.messages.send_to(author.id, recipient, text, "", "")

    run_with_services(work)


@main.command()
@of_a_server
@click.argument("name")
@click.argument("key")
@click.argument("data", metavar="JSON")
def notify(url: str | None, token: str | None, name: str, key: str, data: str) -> None:
    """Replace the notification KEY of the user NAME; without --url directly in the database of this machine."""
    try:
        value = json.loads(data, parse_constant=_not_json)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="JSON") from None
    if url is not None:
        _run(lambda client: client.publish(name, key, value), _remote(url, token))
        return

    async def work(services: Services) -> None:
        await services.notifications.publish(Publication((await services.accounts.known(name)).id, key, value))

    run_with_services(work)


@main.command()
@of_a_server
def status(url: str | None, token: str | None) -> None:
    """Show whose token this is, and which transports work from this network."""
    library = _library()

    async def work(client: "Client") -> list["Probed"]:
        _line("server", client.url)
        try:
            _line("account", _account(await client.get("/tokens")))
        except library.ClientError as error:
            _line("account", f"unknown: {error}", works=False)
        probes = []
        for transport in TRANSPORTS:
            probes.append(await client.probe(transport))
            _line(transport, _outcome(probes[-1]), probes[-1].works)
        return probes

    probes = _run(work, _remote(url, token), timeout=0)
    if not any(each.works for each in probes):
        refused = any(each.status in (401, 403) for each in probes)
        raise (Rejected if refused else Unreachable)(probes[-1].cause)


def _account(answer: Any) -> str:
    for each in answer["tokens"]:
        if each["current"]:
            return f"{answer['username']}, token {each['name']!r}: {', '.join(each['scopes'])}"
    return f"{answer['username']}, a signed token (JWT)"


def _outcome(probed: "Probed") -> str:
    return f"works, {probed.ms:.0f} ms" if probed.works else f"fails: {probed.cause}"


def _line(name: str, text: str, works: bool = True) -> None:
    _echo(f"{name:<10} {click.style(text, fg=None if works else 'red')}")


def _remote(url: str | None, token: str | None) -> Target:
    if not url:
        raise click.UsageError("no server: give --url or MICROBLOG_URL")
    if not token:
        raise click.UsageError("no access token: give --token or MICROBLOG_TOKEN")
    return Target(url, token)


def _library() -> Any:
    """The package of the client, which is an extra."""
    try:
        return import_module("microblog_rt.client")
    except ImportError as error:
        raise Misconfigured(f"this command needs microblog-rt[client]: {error}") from None


def _run(work: Callable[["Client"], Awaitable[T]], target: Target, **options: Any) -> T:
    """Run ``work`` with a client; its errors become exit statuses."""
    library = _library()
    try:
        unopened = library.Client(str(target.url), target.token, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    async def run() -> T:
        async with unopened as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except (library.SignedOut, library.Forbidden) as error:
        raise Rejected(str(error)) from None
    except (library.Unreachable, library.Unavailable) as error:
        raise Unreachable(str(error)) from None
    except library.ClientError as error:
        raise Failed(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def _show(each: "Notification") -> None:
    name = click.style(json.dumps(each.name), bold=True)
    _echo(f'{{"name": {name}, "data": {json.dumps(each.data)}, "timestamp": {each.timestamp!r}}}')


async def _execute(shell: str, each: "Notification") -> None:
    """Run the command to its end, so that those of two notifications do not overlap."""
    process = await asyncio.create_subprocess_exec("sh", "-c", shell, stdin=asyncio.subprocess.PIPE)
    await process.communicate(json.dumps(each._asdict()).encode() + b"\n")
    if process.returncode:
        click.echo(f"the command ended with status {process.returncode}", err=True)


def _progress() -> "Callable[[Status], None] | None":
    """Shows the state of the connection on a terminal."""
    if not sys.stderr.isatty():
        return None

    def show(state: "Status") -> None:
        text = f"connected by {state.transport}" if state.online else " ".join(["connecting", state.cause]).strip()
        _echo(click.style(text, dim=True), err=True)

    return show


def _echo(text: str, *, err: bool = False) -> None:
    """Print a line, coloured only on a terminal, and not with NO_COLOR (https://no-color.org)."""
    try:
        click.echo(text, err=err, color=False if os.environ.get("NO_COLOR") else None)
    except BrokenPipeError:
        raise  # click ends the command silently
    except OSError as error:
        raise Failed(f"cannot write the output: {error.strerror}") from None

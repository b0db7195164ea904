"""More commands of ``microblog-rt user``, and ``microblog-rt invite``, added to those of ``cli.py``."""

from datetime import UTC, datetime

import click

from microblog_rt.account_settings import INVITE
from microblog_rt.accounts import session_name
from microblog_rt.cli import chosen_settings, main, run_with_services, user
from microblog_rt.errors import Misconfigured
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.services import Services
from microblog_rt.settings import duration

__all__ = ["main"]

AT_ONCE = 500  # rows


@user.command("list")
def list_users() -> None:
    """List all accounts by name: since when, the e-mail address, and whether it is disabled."""

    async def work(services: Services) -> None:
        after = None
        while (page := await services.accounts.everyone(AT_ONCE, after)).rows:
            for each in page.rows:
                columns = [each.username, f"since {day(each.member_since)}", each.email or "no email address"]
                click.echo("\t".join([*columns, *(["disabled"] if each.disabled else [])]))
                after = each.username_key

    run_with_services(work)


@user.command()
@click.argument("name")
@click.option("--end", is_flag=True, help="End them all.")
def sessions(name: str, end: bool) -> None:
    """List the sessions of the account NAME, the newest first, or end them; their open pages end at once."""

    async def work(services: Services) -> None:
        user_id = (await services.accounts.known(name)).id
        if end:
            await services.sessions.end_sessions(user_id)
            click.echo(f"All sessions of {name} have ended.")
            return
        before = None
        while (page := await services.sessions.all_sessions(user_id, AT_ONCE, before)).rows:
            for each in page.rows:
                columns = [session_name(each.token_hash), each.device or "unknown device"]
                columns += [f"created {day(each.created)}", f"last used {day(each.last_used)}"]
                click.echo("\t".join([*columns, f"expires {day(each.expires)}"]))
                before = each.created

    run_with_services(work)


@user.command()
@click.argument("name")
@click.argument("address", required=False)
@click.option("--remove", is_flag=True, help="Remove the address.")
def email(name: str, address: str | None, remove: bool) -> None:
    """Print the e-mail address of the account NAME, or set it to ADDRESS without a mail to confirm it."""
    if address is not None and remove:
        raise Misconfigured("give either ADDRESS or --remove")

    async def work(services: Services) -> str:
        found = await services.accounts.known(name)
        if address is None and not remove:
            return found.email or f"{name} has no email address."
        await services.recovery.set_email(found, address, None)
        return f"{name} has no email address now." if remove else f"{name} has the email address {address} now."

    click.echo(run_with_services(work))


@user.command()
@click.argument("name")
@click.confirmation_option(prompt="Delete the account, its posts, and all messages that it has sent and received?")
def delete(name: str) -> None:
    """Delete the account NAME, its posts, and all messages that it has sent and received. Its open pages end."""
    run_with_services(lambda services: services.removal.delete(name))
    click.echo(f"{name} is deleted.")


@main.command()
@click.option("--expires", metavar="7days", default="7days", show_default=True, help="When the invitation ends.")
def invite(expires: str) -> None:
    """Print an invitation, with which one person can register: a link, or without MICROBLOG_PUBLIC_URL a code."""
    lasts, chosen = seconds(expires), chosen_settings()
    if chosen.registration != INVITE:
        click.echo(f"Warning: MICROBLOG_REGISTRATION is {chosen.registration}; with invite it is needed.", err=True)
    code = run_with_services(lambda services: services.registration.invite(lasts))
    base = f"{chosen.public_url}{chosen.path_prefix}/auth/register?invitation=" if chosen.public_url else ""
    click.echo(base + code)


def seconds(text: str) -> int:
    """The seconds of the option ``--expires``."""
    try:
        return duration(text)
    except ValueError as error:
        raise Misconfigured(f"--expires {error}") from None


def day(moment: int | None) -> str:
    """A time in a list."""
    return "never" if moment is None else f"{datetime.fromtimestamp(moment / MICROSECONDS, UTC):%Y-%m-%d %H:%M}"

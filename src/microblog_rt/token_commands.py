"""The commands ``microblog-rt token``, added to those of ``cli.py``."""

from collections.abc import Sequence

import click

from microblog_rt.account_commands import day, main, seconds
from microblog_rt.cli import run_with_services
from microblog_rt.models import SCOPES, AccessToken
from microblog_rt.services import Services

__all__ = ["main", "run_with_services"]


@main.group()
def token() -> None:
    """Manage access tokens, with which programs use the API."""


@token.command()
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="Can be given several times."
)
@click.option("--expires", metavar="90days", help="When the token ends; without this option never.")
@click.option("--name", "label", default="command line", show_default=True, help="What the list of tokens shows.")
def add(name: str, scopes: Sequence[str], expires: str | None, label: str) -> None:
    """Create a token of the account NAME and print it, which cannot be done again."""
    lasts = None if expires is None else seconds(expires)

    async def work(services: Services) -> str:
        return await services.tokens.add(await services.accounts.known(name), label, scopes, lasts)

    click.echo(run_with_services(work))


@token.command("list")
@click.argument("name")
def list_tokens(name: str) -> None:
    """List the tokens of the account NAME."""

    async def work(services: Services) -> Sequence[AccessToken]:
        return await services.tokens.of_user((await services.accounts.known(name)).id)

    for each in run_with_services(work):
        columns = [each.id, each.name, each.scopes, f"created {day(each.created)}"]
        columns += [f"expires {day(each.expires)}", f"last used {day(each.last_used)}"]
        click.echo("\t".join(columns))


@token.command()
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """Revoke the token ID, as ``token list`` shows it; its open streams end at once."""
    run_with_services(lambda services: services.tokens.revoke_id(token_id))
    click.echo(f"The token {token_id} is revoked.")

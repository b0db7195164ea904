"""The demo: accounts, a history in a new database, and an account that answers by itself.

history.py   users, posts, follows and messages for a new database
guide.py     the account that answers

The password of all these accounts is derived from the installation's secret key.
"""

import hashlib
from typing import NamedTuple

from microblog_rt.accounts import Accounts
from microblog_rt.app import Task
from microblog_rt.demo import guide, history
from microblog_rt.services import Services

KINDS = ("full", "accounts")
HELP = "Two demo accounts; without a value also a history and an account that answers. Only on loopback."
NAMES = ("alice", "bob")


class Demo(NamedTuple):
    """What ``serve`` prints, what runs in each process that serves, and the account to sign in as, if any."""

    lines: list[str]
    tasks: tuple[Task, ...] = ()
    account: str = ""


def password(secret_key: str) -> str:
    """The demo accounts' password in this installation."""
    return "demo-" + hashlib.sha256(f"demo accounts {secret_key}".encode()).hexdigest()[:8]


async def prepare(services: Services, secret_key: str, *, only_accounts: bool) -> Demo:
    """Create the demo accounts that are missing. With ``only_accounts`` the two of ``NAMES`` and nothing else.

    A database without users gets the history as well. An account that has another password is not changed.
    """
    wanted = NAMES if only_accounts else (*NAMES, guide.NAME)
    opened = password(secret_key)
    if not only_accounts and not (await services.accounts.everyone(1)).rows:
        await history.write(services, opened)
    names = [name for name in wanted if await _opens(services.accounts, name, opened)]
    named = [name for name in names if name in NAMES]
    lines = [f"Demo accounts: {' and '.join(named)}, password {opened}"] if named else []
    lines += [
        f"{name} already exists with another password; it was not changed." for name in sorted({*wanted} - {*names})
    ]
    if guide.NAME not in names:
        return Demo(lines)
    if not named:
        return Demo(lines, (guide.run,))
    lines.append(f"Sign in as {named[0]} and write to {guide.NAME}, an account that answers within 3 seconds.")
    return Demo(lines, (guide.run,), named[0])


async def _opens(accounts: Accounts, name: str, candidate: str) -> bool:
    if await accounts.find(name) is None:
        await accounts.register(name, candidate)
        return True
    return await accounts.opens(name, candidate)

"""Two accounts to try it with. Their password comes of the installation's own key: nobody elsewhere knows it."""

import hashlib

from microblog_rt.accounts import Accounts

NAMES = ("alice", "bob")


def password(secret_key: str) -> str:
    """The demo accounts' password in this installation."""
    return "demo-" + hashlib.sha256(f"demo accounts {secret_key}".encode()).hexdigest()[:8]


async def prepare(accounts: Accounts, secret_key: str) -> list[str]:
    """Make the demo accounts that are missing; the names of those that the password opens."""
    return [name for name in NAMES if await _opens(accounts, name, password(secret_key))]


async def _opens(accounts: Accounts, name: str, word: str) -> bool:
    if await accounts.find(name) is None:
        await accounts.register(name, word)
        return True
    return await accounts.opens(name, word)

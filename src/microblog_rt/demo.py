"""Two demo accounts. Their password is derived from the installation's secret key."""

import hashlib

from microblog_rt.accounts import Accounts

NAMES = ("alice", "bob")


def password(secret_key: str) -> str:
    """The demo accounts' password in this installation."""
    return "demo-" + hashlib.sha256(f"demo accounts {secret_key}".encode()).hexdigest()[:8]


async def prepare(accounts: Accounts, secret_key: str) -> list[str]:
    """Create missing demo accounts; the names of those that use the demo password."""
    return [name for name in NAMES if await _opens(accounts, name, password(secret_key))]


async def _opens(accounts: Accounts, name: str, candidate: str) -> bool:
    if await accounts.find(name) is None:
        await accounts.register(name, candidate)
        return True
    return await accounts.opens(name, candidate)

"""The settings, read once from environment variables, by ``app.py`` and what is above it, and validated."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from microblog_rt import account_settings, jwts, public_url, webhook_settings
from microblog_rt.errors import Misconfigured
from microblog_rt.keys import SECRET_KEY_LENGTH, is_weak, split_keys
from microblog_rt.webhook_settings import WebhookSettings

PREFIX = "MICROBLOG_"
DEFAULT_DATABASE_URL = "sqlite+aiosqlite:///microblog.db"
SQLITE = "sqlite+aiosqlite://"
POSTGRESQL = "postgresql+asyncpg://"
MEMORY = "memory://"
SQLITE_BUS = "sqlite://"
POSTGRESQL_BUS = "postgresql://"
LOOPBACK = {"localhost", "127.0.0.1", "::1"}  # names of the local host
DAY = 86400
SHORTEST_IDLE = 120
CLIENT = ("url", "token")  # of the commands that are clients, see client_commands.py


class Limit(NamedTuple):
    """At most ``times`` in any ``seconds``."""

    times: int
    seconds: int


@dataclass(frozen=True)
class Settings(account_settings.AccountSettings, WebhookSettings):
    """Validated settings. ``None`` disables a limit or a cap."""

    database_url: str = field(default=DEFAULT_DATABASE_URL, repr=False)
    bus_url: str = field(default=MEMORY, repr=False)
    secret_key: str | None = field(default=None, repr=False)  # several are separated by commas or spaces
    public_url: str | None = None
    path_prefix: str = ""
    allowed_origins: frozenset[str] | None = None
    jwt_key: jwts.Keys | None = field(default=None, repr=False)
    jwt_audience: str | None = None
    trusted_hops: int = 0
    sign_in_limit: Limit | None = Limit(10, 300)
    sign_in_global_limit: Limit | None = Limit(1000, 300)
    send_limit: Limit | None = Limit(60, 60)
    publish_limit: Limit | None = None
    tabs_per_user: int | None = 20
    tabs_per_address: int | None = 200
    connections_per_address: int | None = 500
    register_limit: Limit | None = Limit(20, 3600)
    mail_limit: Limit | None = Limit(5, 3600)
    heartbeat: float = 20.0
    sweep: float = 5.0
    drain: float = 10.0
    metrics_token: str | None = field(default=None, repr=False)
    log: str = "text"
    session_idle: int = 14 * DAY
    session_lifetime: int = 90 * DAY
    keep_alive_timeout: float = 15.0
    event_loop: str = "auto"
    bind_hosts: frozenset[str] = frozenset()  # from ``serve --bind``, not from the environment
    demo: str = ""  # the account to sign in as, if this is a demo with an account that answers

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Parse the ``MICROBLOG_...`` variables of ``environ``.

        Raises `Misconfigured`, naming the variable, for an invalid value.
        """
        chosen: dict[str, Any] = {}
        for name, parse in PARSERS.items():
            variable = PREFIX + name.upper()
            if variable in environ:
                try:
                    chosen[name] = parse(environ[variable].strip())
                except ValueError as error:
                    raise Misconfigured(f"{variable}: {error}") from None
        settings = cls(**chosen)
        if settings.session_idle < SHORTEST_IDLE:
            raise Misconfigured(f"{PREFIX}SESSION_IDLE: must be at least 2 minutes")
        _check_bus(settings)
        webhook_settings.check(settings, settings.heartbeat)
        account_settings.check(settings, settings.public_url)
        return settings

    @property
    def default_database(self) -> bool:
        """Whether the database is the default SQLite file, which is migrated automatically."""
        return self.database_url == DEFAULT_DATABASE_URL

    @property
    def secure(self) -> bool:
        """Whether browsers use https."""
        return self.public_url is not None and self.public_url.startswith("https:")

    @property
    def connections_per_peer(self) -> int | None:
        """The limit where connections come from clients; a proxy limits them itself."""
        return None if self.trusted_hops else self.connections_per_address

    @property
    def sqlite_file(self) -> Path | None:
        """The path of the SQLite file, or None for another database."""
        if not self.database_url.startswith(SQLITE):
            return None
        return Path(self.database_url.removeprefix(SQLITE + "/"))


def warnings(settings: Settings) -> list[str]:
    """What is allowed and dangerous in ``settings``."""
    if settings.public_url is None or settings.secure:
        return []
    return [f"{PREFIX}PUBLIC_URL is not https: passwords and sessions can be read on the network"]


def unknown(environ: Mapping[str, str]) -> list[str]:
    """Variables in ``environ`` with the settings prefix that name no setting, such as misspelt ones."""
    known = {PREFIX + name.upper() for name in [*PARSERS, *CLIENT]}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)


def _database_url(text: str) -> str:
    if text.startswith(POSTGRESQL):
        _check_address(text)
        return text
    path = text.removeprefix(SQLITE + "/")
    if path in (text, "", ":memory:") or "?" in path:
        raise ValueError(
            f"must be an SQLite file, as in {DEFAULT_DATABASE_URL}, or {POSTGRESQL}USER:PASSWORD@HOST/NAME"
        )
    return text


def _check_address(text: str) -> None:
    wanted = f"must be {POSTGRESQL}USER:PASSWORD@HOST:PORT/NAME, with special characters percent-encoded"
    try:
        parts = urlsplit(text)
        several = "," in parts.netloc.rpartition("@")[2] or "host" in parse_qs(parts.query)
        one = parts.hostname and parts.path.strip("/") and parts.netloc.count("@") < 2
        whole = several or (one and (parts.port or True))
    except ValueError:
        whole = False
    if not whole:
        raise ValueError(wanted)
    if several:
        raise ValueError("must name one HOST; with a standby, use an address that follows the primary")
    _check_query(text)
    if "sslmode=" in parts.query:
        raise ValueError("must use ?ssl=require instead of sslmode, which asyncpg does not accept")


def _check_query(text: str) -> None:
    # Error messages show the query of an address; they hide only the password before the @.
    if any(name.lower().endswith(("password", "passwd", "pwd")) for name in parse_qs(urlsplit(text).query)):
        raise ValueError("must have the password before the @, as in //USER:PASSWORD@HOST, and not after the ?")


def _bus_url(text: str) -> str:
    parts = urlsplit(text)
    _check_query(text)
    redis = parts.scheme in ("redis", "rediss") and parts.hostname
    if text not in (MEMORY, SQLITE_BUS) and not text.startswith(POSTGRESQL_BUS) and not redis:
        raise ValueError(
            f"must be {MEMORY} (one process), redis://HOST:PORT/NUMBER, or the bus of the database: "
            f"{SQLITE_BUS} or {POSTGRESQL_BUS}"
        )
    return text


def _check_bus(settings: Settings) -> None:
    """Raise `Misconfigured` when the bus needs another kind of database than the configured one."""
    if settings.bus_url == SQLITE_BUS and settings.sqlite_file is None:
        raise Misconfigured(
            f"{PREFIX}BUS_URL: {SQLITE_BUS} must be used with an SQLite database; change one of the two"
        )
    if settings.bus_url.startswith(POSTGRESQL_BUS) and not settings.database_url.startswith("postgresql"):
        raise Misconfigured(
            f"{PREFIX}BUS_URL: {POSTGRESQL_BUS} must be used with a PostgreSQL database; change one of the two"
        )


def _secret_key(text: str) -> str:
    if is_weak(text):
        raise ValueError(f"must be random and have at least {SECRET_KEY_LENGTH} characters")
    return text


def _secret_keys(text: str) -> str:
    if any(is_weak(key) for key in split_keys(text)):
        raise ValueError(
            f"must be random and have at least {SECRET_KEY_LENGTH} characters; commas and spaces separate several keys"
        )
    return text


UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": DAY}
LIMIT = re.compile(r"(\d{1,9})/(\d{1,9})?(second|minute|hour|day)s?", re.ASCII)
DURATION = re.compile(r"([1-9]\d{0,8}) ?(second|minute|hour|day)s?", re.ASCII)


def _limit(text: str) -> Limit | None:
    if not text:
        return None
    match = LIMIT.fullmatch(text)
    if not match or not int(match[1]) or not int(match[2] or 1):
        raise ValueError("must be COUNT/UNIT, as in 60/minute or 10/5minutes (empty: no limit)")
    return Limit(int(match[1]), int(match[2] or 1) * UNITS[match[3]])


def duration(text: str) -> int:
    """The seconds of a duration such as 14days. Raises ValueError."""
    match = DURATION.fullmatch(text)
    if not match or int(match[1]) * UNITS[match[2]] > 3650 * DAY:
        raise ValueError("must be COUNT and UNIT, as in 14days or 12hours, at most 3650days")
    return int(match[1]) * UNITS[match[2]]


def _hops(text: str) -> int:
    if not re.fullmatch(r"\d", text, re.ASCII):
        raise ValueError("must be the number of proxies in front of this server, 0 to 9")
    return int(text)


def _cap(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise ValueError("must be a whole number above 0 (empty: no limit)")
    return int(text)


def _seconds(text: str) -> float:
    if not 0 < _number(text) <= 3600:
        raise ValueError("must be a number of seconds above 0, at most 3600")
    return _number(text)


def _drain(text: str) -> float:
    if not 0 <= _number(text) <= 3600:
        raise ValueError("must be a number of seconds from 0 to 3600")
    return _number(text)


def _one_of(text: str, *allowed: str) -> str:
    if text not in allowed:
        raise ValueError(f"must be {', '.join(allowed[:-1])} or {allowed[-1]}")
    return text


def _event_loop(text: str) -> str:
    if _one_of(text, "auto", "asyncio", "uvloop") == "uvloop" and find_spec("uvloop") is None:
        raise ValueError("uvloop is not installed; pip install 'microblog-rt[fast]'")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


PARSERS: dict[str, Callable[[str], Any]] = {
    "database_url": _database_url,
    "bus_url": _bus_url,
    "secret_key": _secret_keys,
    "public_url": public_url.parse,
    "path_prefix": public_url.parse_prefix,
    "allowed_origins": public_url.parse_origins,
    "jwt_key": jwts.parse,
    "jwt_audience": lambda text: text or None,
    "trusted_hops": _hops,
    "sign_in_limit": _limit,
    "sign_in_global_limit": _limit,
    "send_limit": _limit,
    "publish_limit": _limit,
    "tabs_per_user": _cap,
    "tabs_per_address": _cap,
    "connections_per_address": _cap,
    "register_limit": _limit,
    "mail_limit": _limit,
    "heartbeat": _seconds,
    "sweep": _seconds,
    "drain": _drain,
    "metrics_token": _secret_key,
    "log": lambda text: _one_of(text, "text", "json"),
    "session_idle": duration,
    "session_lifetime": duration,
    "keep_alive_timeout": _seconds,
    "event_loop": _event_loop,
    **account_settings.PARSERS,
    **webhook_settings.PARSERS,
}

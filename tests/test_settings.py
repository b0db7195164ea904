"""Settings: parsing, validation, and error messages."""

import pytest

from microblog_rt import settings
from microblog_rt.errors import Misconfigured
from microblog_rt.settings import Limit, Settings


def test_empty_environment_gives_defaults() -> None:
    assert Settings.from_environ({}) == Settings()


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://b\u00fccher.example/", "https://xn--bcher-kva.example"),
        ("https://B\u00dcCHER.example:8443", "https://xn--bcher-kva.example:8443"),
        ("http://intranet", "http://intranet"),
        ("http://192.168.1.5:8000/", "http://192.168.1.5:8000"),
        ("http://intranet:80", "http://intranet"),
        ("http://[fd00::1]", "http://[fd00::1]"),
    ],
)
def test_public_url_is_stored_as_browsers_send_it(url: str, stored: str) -> None:
    chosen = Settings.from_environ({"MICROBLOG_PUBLIC_URL": url})
    assert chosen.public_url == stored
    assert chosen.secure == url.startswith("https")
    assert len(settings.warnings(chosen)) == (not chosen.secure)


@pytest.mark.parametrize("host", ["fa\u00df.example", "a\u200db.example", "\u00fc" * 64, "\u00fc..example"])
def test_host_name_without_a_certain_ascii_form_is_refused(host: str) -> None:
    with pytest.raises(Misconfigured, match="MICROBLOG_PUBLIC_URL: must have"):
        Settings.from_environ({"MICROBLOG_PUBLIC_URL": f"https://{host}"})


def test_every_setting_can_be_set() -> None:
    chosen = Settings.from_environ(
        {
            "MICROBLOG_DATABASE_URL": "sqlite+aiosqlite:////srv/other.db",
            "MICROBLOG_BUS_URL": "redis://localhost:6379/1",
            "MICROBLOG_SECRET_KEY": "0123456789abcdef",
            "MICROBLOG_PUBLIC_URL": "https://Example.org:443/",
            "MICROBLOG_PATH_PREFIX": "/apps/live-badge_1~",
            "MICROBLOG_TRUSTED_HOPS": "2",
            "MICROBLOG_SIGN_IN_LIMIT": "3/2minutes",
            "MICROBLOG_SIGN_IN_GLOBAL_LIMIT": "100/hour",
            "MICROBLOG_SEND_LIMIT": "5/second",
            "MICROBLOG_PUBLISH_LIMIT": "600/minute",
            "MICROBLOG_TABS_PER_USER": "7",
            "MICROBLOG_TABS_PER_ADDRESS": "8",
            "MICROBLOG_CONNECTIONS_PER_ADDRESS": "9",
            "MICROBLOG_REGISTER_LIMIT": "1/day",
            "MICROBLOG_HEARTBEAT": "2.5",
            "MICROBLOG_SWEEP": "1",
            "MICROBLOG_DRAIN": "0",
            "MICROBLOG_SESSION_IDLE": "12 hours",
            "MICROBLOG_SESSION_LIFETIME": "1day",
            "MICROBLOG_METRICS_TOKEN": "fedcba9876543210",
            "MICROBLOG_LOG": "json",
            "MICROBLOG_KEEP_ALIVE_TIMEOUT": "30",
            "MICROBLOG_EVENT_LOOP": "asyncio",
        }
    )
    assert chosen == Settings(
        database_url="sqlite+aiosqlite:////srv/other.db",
        bus_url="redis://localhost:6379/1",
        secret_key="0123456789abcdef",
        public_url="https://example.org",
        path_prefix="/apps/live-badge_1~",
        trusted_hops=2,
        sign_in_limit=Limit(3, 120),
        sign_in_global_limit=Limit(100, 3600),
        send_limit=Limit(5, 1),
        publish_limit=Limit(600, 60),
        tabs_per_user=7,
        tabs_per_address=8,
        connections_per_address=9,
        register_limit=Limit(1, 86400),
        heartbeat=2.5,
        sweep=1.0,
        drain=0.0,
        session_idle=43200,
        session_lifetime=86400,
        metrics_token="fedcba9876543210",
        log="json",
        keep_alive_timeout=30.0,
        event_loop="asyncio",
    )


@pytest.mark.parametrize(
    "name",
    [
        "SIGN_IN_LIMIT",
        "SIGN_IN_GLOBAL_LIMIT",
        "SEND_LIMIT",
        "PUBLISH_LIMIT",
        "REGISTER_LIMIT",
        "TABS_PER_USER",
        "TABS_PER_ADDRESS",
        "CONNECTIONS_PER_ADDRESS",
    ],
)
def test_empty_limit_disables_it(name: str) -> None:
    chosen = Settings.from_environ({f"MICROBLOG_{name}": ""})
    assert getattr(chosen, name.lower()) is None


def test_publishing_has_no_limit_by_default() -> None:
    """Services publish thousands a second."""
    assert Settings().publish_limit is None


BAD = [
    ("DATABASE_URL", "postgresql://localhost/x"),
    ("DATABASE_URL", "sqlite+aiosqlite://"),
    ("DATABASE_URL", "sqlite+aiosqlite:///:memory:"),
    ("DATABASE_URL", ""),
    ("BUS_URL", "kafka://x"),
    ("SECRET_KEY", "short"),
    ("SECRET_KEY", "0123456789abcdef,short"),
    ("SECRET_KEY", "a" * 32),
    ("PUBLIC_URL", "ftp://example.org"),
    ("PUBLIC_URL", "https://example.org/path"),
    ("PUBLIC_URL", "https://user@example.org"),
    ("PUBLIC_URL", "https://example.org:port"),
    ("PATH_PREFIX", "/"),
    ("PATH_PREFIX", "badge"),
    ("PATH_PREFIX", "/badge/"),
    ("PATH_PREFIX", "//badge"),
    ("PATH_PREFIX", "/a//b"),
    ("PATH_PREFIX", "/."),
    ("PATH_PREFIX", "/a/.."),
    ("PATH_PREFIX", "/a.b"),
    ("PATH_PREFIX", "/a b"),
    ("PATH_PREFIX", "/a%20b"),
    ("PATH_PREFIX", "/a?b"),
    ("PATH_PREFIX", "/a#b"),
    ("PATH_PREFIX", "/a;b"),
    ("PATH_PREFIX", "/caf\u00e9"),
    ("PATH_PREFIX", "/a\n/b"),
    ("PATH_PREFIX", "https://example.org/badge"),
    ("SIGN_IN_LIMIT", "10"),
    ("SEND_LIMIT", "0/minute"),
    ("SEND_LIMIT", "1/0minutes"),
    ("SEND_LIMIT", "1/fortnight"),
    ("REGISTER_LIMIT", "-1/hour"),
    ("TABS_PER_USER", "0"),
    ("TABS_PER_ADDRESS", "many"),
    ("HEARTBEAT", "0"),
    ("HEARTBEAT", "nan"),
    ("SWEEP", "soon"),
    ("SWEEP", "1e9"),
    ("DATABASE_URL", "postgresql+asyncpg://host"),
    ("DATABASE_URL", "postgresql+asyncpg://host:port/name"),
    ("DATABASE_URL", "postgresql+asyncpg://somebody:half@secret@host/name"),
    ("DATABASE_URL", "postgresql+asyncpg://host/name?sslmode=require"),
    ("DATABASE_URL", "postgresql+psycopg://host/name"),
    ("BUS_URL", "redis://"),
    ("BUS_URL", "sqlite:///another.db"),
    ("BUS_URL", "postgresql://"),
    ("TRUSTED_HOPS", "-1"),
    ("TRUSTED_HOPS", "all"),
    ("DRAIN", "-1"),
    ("DRAIN", "long"),
    ("SESSION_IDLE", "14"),
    ("SESSION_IDLE", "0days"),
    ("SESSION_IDLE", "119seconds"),
    ("SESSION_LIFETIME", "99999days"),
    ("SESSION_LIFETIME", ""),
    ("METRICS_TOKEN", "short"),
    ("METRICS_TOKEN", ""),
    ("LOG", "xml"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_invalid_setting_is_rejected_by_name(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"^MICROBLOG_{name}: "):
        Settings.from_environ({f"MICROBLOG_{name}": value})


@pytest.mark.parametrize("where", ["host,other/name", "host:5432,other:5432/name", "host/name?host=other:5432"])
def test_database_url_with_several_hosts_is_rejected(where: str) -> None:
    with pytest.raises(Misconfigured, match="must name one HOST"):
        Settings.from_environ({"MICROBLOG_DATABASE_URL": f"postgresql+asyncpg://{where}"})


@pytest.mark.parametrize(
    ("bus", "database_url"),
    [("sqlite://", "postgresql+asyncpg://host/blog"), ("postgresql://host", "sqlite+aiosqlite:///blog.db")],
)
def test_bus_of_another_kind_of_database_is_rejected(bus: str, database_url: str) -> None:
    with pytest.raises(Misconfigured, match=r"^MICROBLOG_BUS_URL: .* must be used with"):
        Settings.from_environ({"MICROBLOG_BUS_URL": bus, "MICROBLOG_DATABASE_URL": database_url})


def test_repr_hides_secrets() -> None:
    assert "0123456789abcdef" not in repr(Settings(secret_key="0123456789abcdef", metrics_token="0123456789abcdef"))
    assert "password" not in repr(Settings(bus_url="redis://:password@localhost"))


def test_misspelt_setting_is_found() -> None:
    assert settings.unknown({"MICROBLOG_DATABSE_URL": "x", "MICROBLOG_SWEEP": "5", "HOME": "/"}) == [
        "MICROBLOG_DATABSE_URL"
    ]

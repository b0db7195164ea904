"""Settings: read once, each bad one refused by name."""

from dataclasses import fields

import pytest

from microblog_rt import files, settings
from microblog_rt.errors import Misconfigured
from microblog_rt.settings import Limit, Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environ({}) == Settings()


def test_every_setting_can_be_set() -> None:
    chosen = Settings.from_environ(
        {
            "MICROBLOG_DATABASE_URL": "sqlite+aiosqlite:////srv/other.db",
            "MICROBLOG_BUS_URL": "memory://",
            "MICROBLOG_SECRET_KEY": "0123456789abcdef",
            "MICROBLOG_PUBLIC_URL": "https://Example.org:443/",
            "MICROBLOG_SIGN_IN_LIMIT": "3/2minutes",
            "MICROBLOG_SEND_LIMIT": "5/second",
            "MICROBLOG_TABS_PER_USER": "7",
            "MICROBLOG_TABS_PER_ADDRESS": "8",
            "MICROBLOG_REGISTER_LIMIT": "1/day",
            "MICROBLOG_HEARTBEAT": "2.5",
            "MICROBLOG_SWEEP": "1",
        }
    )
    assert chosen == Settings(
        database_url="sqlite+aiosqlite:////srv/other.db",
        bus_url="memory://",
        secret_key="0123456789abcdef",
        public_url="https://example.org",
        sign_in_limit=Limit(3, 120),
        send_limit=Limit(5, 1),
        tabs_per_user=7,
        tabs_per_address=8,
        register_limit=Limit(1, 86400),
        heartbeat=2.5,
        sweep=1.0,
    )


@pytest.mark.parametrize("name", ["SIGN_IN_LIMIT", "SEND_LIMIT", "REGISTER_LIMIT", "TABS_PER_USER", "TABS_PER_ADDRESS"])
def test_an_empty_limit_means_none(name: str) -> None:
    chosen = Settings.from_environ({f"MICROBLOG_{name}": ""})
    assert getattr(chosen, name.lower()) is None


BAD = [
    ("DATABASE_URL", "postgresql://localhost/x"),
    ("DATABASE_URL", "sqlite+aiosqlite://"),
    ("DATABASE_URL", "sqlite+aiosqlite:///:memory:"),
    ("DATABASE_URL", ""),
    ("BUS_URL", "kafka://x"),
    ("SECRET_KEY", "short"),
    ("PUBLIC_URL", "http://example.org"),
    ("PUBLIC_URL", "https://example.org/path"),
    ("PUBLIC_URL", "https://user@example.org"),
    ("PUBLIC_URL", "https://example.org:port"),
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
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_setting_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"^MICROBLOG_{name}: "):
        Settings.from_environ({f"MICROBLOG_{name}": value})


def test_a_secret_is_not_shown() -> None:
    assert "0123456789abcdef" not in repr(Settings(secret_key="0123456789abcdef"))


def test_a_misspelt_setting_is_found() -> None:
    assert settings.unknown({"MICROBLOG_DATABSE_URL": "x", "MICROBLOG_SWEEP": "5", "HOME": "/"}) == [
        "MICROBLOG_DATABSE_URL"
    ]


def test_every_setting_is_documented_in_the_readme() -> None:
    readme = (files.CHECKOUT / "README.md").read_text()
    missing = [each.name for each in fields(Settings) if f"`MICROBLOG_{each.name.upper()}`" not in readme]
    assert not missing

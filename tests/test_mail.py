"""Mail over SMTP: encryption, credentials, attempts, and the settings."""

import asyncio
import logging
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from microblog_rt.errors import Misconfigured
from microblog_rt.mail import WAITING, Mailer, deliverable
from microblog_rt.settings import Settings
from microblog_rt.timeouts import Timeouts
from tests.clients import DEADLINE
from tests.mail_server import mail_server
from tests.ports import free_port

QUICK = Timeouts(mail_pause=0.0, mail_retry=0.01, mail_send=5.0, mail_on_close=0.0)
REMOTE = "127.0.0.2"  # not a name of this machine, so TLS is needed
MAIL = {
    "MICROBLOG_SMTP_URL": "smtp://user:p%40ss@mail.example.org",
    "MICROBLOG_MAIL_FROM": "Microblog <noreply@example.org>",
    "MICROBLOG_PUBLIC_URL": "https://example.org",
}


def mailer(url: str, timeouts: Timeouts = QUICK) -> Mailer:
    return Mailer(Settings(smtp_url=url, mail_from="Microblog <noreply@example.org>"), timeouts)


async def send(mailer: Mailer, subject: str = "Subject", text: str = "Text\n") -> None:
    await mailer.send("susan@example.org", subject, text)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server at ``REMOTE``, whose certificate is trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(REMOTE))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, key_file = tmp_path / "mail.pem", tmp_path / "mail.key"
    pem.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key_file)
    return context


async def test_credentials_are_sent_after_starttls(certificate: ssl.SSLContext) -> None:
    async with mail_server(REMOTE, starttls=certificate) as server:
        await send(mailer(server.url.replace("//", "//us%40er:p%3Ass@")))
        assert server.credentials == [("us@er", "p:ss")]
        assert len(await server.arrived(1)) == 1


async def test_smtps_uses_tls_from_the_start(certificate: ssl.SSLContext) -> None:
    async with mail_server(REMOTE, tls=certificate) as server:
        await send(mailer(server.url.replace("smtp:", "smtps:")))
        await server.arrived(1)


async def test_other_machine_without_starttls_gets_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server(REMOTE) as server:
        await send(mailer(server.url.replace("//", "//user:password@")))
        assert (server.mails, server.attempts, server.credentials) == ([], 0, [])
    assert "mail not sent, attempt 3: SMTPException" in caplog.text


@pytest.mark.parametrize("kind", ["smtp", "smtps"])
async def test_unknown_certificate_is_refused(
    kind: str, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    options = {"tls": certificate} if kind == "smtps" else {"starttls": certificate}
    async with mail_server(REMOTE, **options) as server:
        await send(mailer(server.url.replace("smtp:", f"{kind}:")))
        assert server.attempts == 0
    assert "mail not sent" in caplog.text


async def test_server_of_this_machine_needs_no_tls() -> None:
    async with mail_server() as server:
        await send(mailer(server.url))
        (mail,) = await server.arrived(1)
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert mail.message["Message-ID"].endswith("@example.org>")
    assert mail.message["Date"] is not None


async def test_text_and_subject_in_any_language_arrive() -> None:
    async with mail_server() as server:
        long = "https://example.org/" + "x" * 300
        await send(mailer(server.url), "Una contraseña 密碼", f"¿Qué tal? 密碼\n\n{long}\n.\nFrom x\n")
        (mail,) = await server.arrived(1)
    assert mail.message["Subject"] == "Una contraseña 密碼"
    assert mail.text == f"¿Qué tal? 密碼\n\n{long}\n.\nFrom x\n"


@pytest.mark.parametrize(
    ("answers", "attempts", "arrived"),
    [(["451 Later", "421 Later"], 3, 1), (["451 Later"] * 3, 3, 0), (["554 No"], 1, 0)],
)
async def test_temporary_failures_are_retried(
    answers: list[str], attempts: int, arrived: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with mail_server() as server:
        server.answers = list(answers)
        await send(mailer(server.url))
        assert (server.attempts, len(server.mails)) == (attempts, arrived)
    assert ("mail not sent" in caplog.text) == (not arrived)


async def test_unreachable_server_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    await send(mailer(f"smtp://127.0.0.1:{free_port()}"))
    assert "mail not sent, attempt 3: SMTPConnectError" in caplog.text


async def test_silent_server_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server() as server:
        server.open.clear()
        await send(mailer(server.url, replace(QUICK, mail_send=0.2)))
        assert server.attempts == 3
    assert "mail not sent, attempt 3" in caplog.text


async def test_close_gives_up_what_is_not_sent_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server() as server:
        server.open.clear()
        sending = mailer(server.url, replace(QUICK, mail_send=3600.0))
        sending.begin(send(sending))
        async with asyncio.timeout(DEADLINE):
            while not server.attempts:
                await asyncio.sleep(0.01)
            await sending.close()
        assert "mails not sent since the process ends: 1" in caplog.text


async def test_close_waits_for_a_mail_that_is_being_sent() -> None:
    async with mail_server() as server:
        sending = mailer(server.url, replace(QUICK, mail_on_close=60.0))
        sending.begin(send(sending))
        await sending.close()
        await server.arrived(1)


async def test_number_of_waiting_mails_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    sending = mailer("smtp://localhost", replace(QUICK, mail_pause=3600.0))
    for _ in range(WAITING + 1):
        sending.begin(send(sending))
    assert f"mail not sent: {WAITING} others wait" in caplog.text
    await sending.close()


async def test_unexpected_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    sending = mailer("smtp://localhost", replace(QUICK, mail_on_close=60.0))
    with caplog.at_level(logging.ERROR):
        sending.begin(fails())
        await sending.close()
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("a@example.org", "a@example.org"),
        ("a.b+c@b\u00fccher.example", "a.b+c@xn--bcher-kva.example"),
        ("\u00fc@example.org", None),
        ("a@example.org\r\nBcc: b@example.org", None),
        ("a@" + "x" * 64 + ".org", None),
        ("a b@example.org", None),
        ("@example.org", None),
        ("", None),
    ],
)
def test_deliverable_address(address: str, sent: str | None) -> None:
    assert deliverable(address) == sent


def test_mail_settings_are_read() -> None:
    chosen = Settings.from_environ({**MAIL, "MICROBLOG_CONTACT": "admin@example.org", "MICROBLOG_MAIL_LIMIT": "3/day"})
    assert (chosen.smtp_url, chosen.mail_from) == (MAIL["MICROBLOG_SMTP_URL"], MAIL["MICROBLOG_MAIL_FROM"])
    assert (chosen.contact, chosen.mail_limit) == ("admin@example.org", (3, 86400))
    assert "p%40ss" not in repr(chosen)
    assert Settings.from_environ({"MICROBLOG_SMTP_URL": ""}).smtp_url is None


@pytest.mark.parametrize("missing", ["MICROBLOG_MAIL_FROM", "MICROBLOG_PUBLIC_URL"])
def test_mail_needs_a_sender_and_the_public_url(missing: str) -> None:
    with pytest.raises(Misconfigured, match=f"{missing}: must be set"):
        Settings.from_environ({name: value for name, value in MAIL.items() if name != missing})


def test_mail_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microblog_rt.account_settings.find_spec", lambda _: None)
    with pytest.raises(Misconfigured, match="microblog-rt\\[mail\\]"):
        Settings.from_environ(MAIL)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMTP_URL", "mail.example.org"),
        ("SMTP_URL", "http://mail.example.org"),
        ("SMTP_URL", "smtp://"),
        ("SMTP_URL", "smtp://user@mail.example.org"),
        ("SMTP_URL", "smtp://user:p@ss@mail.example.org"),
        ("SMTP_URL", "smtp://mail.example.org:0"),
        ("SMTP_URL", "smtp://mail.example.org:99999"),
        ("SMTP_URL", "smtp://mail.example.org/?password=x"),
        ("MAIL_FROM", "noreply"),
        ("MAIL_FROM", "a@example.org, b@example.org"),
        ("MAIL_FROM", "a@example.org\r\nBcc: b@example.org"),
        ("CONTACT", "x" * 201),
        ("CONTACT", "a\nb"),
        ("REGISTRATION", "yes"),
        ("MAIL_LIMIT", "many"),
    ],
)
def test_invalid_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"^MICROBLOG_{name}: must be"):
        Settings.from_environ({**MAIL, f"MICROBLOG_{name}": value})

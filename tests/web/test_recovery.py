"""The e-mail address of an account, and forgotten passwords: links in mails, each valid once and for an hour."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from quart import Quart, Response
from sqlalchemy import select, update

from microblog_rt.accounts import Reader
from microblog_rt.accounts.tokens import reader_of
from microblog_rt.app import create_app
from microblog_rt.models import READ_MESSAGES, OneTimeLink, User
from microblog_rt.services import Services
from microblog_rt.settings import Limit, Settings
from microblog_rt.timeouts import Timeouts
from microblog_rt.web import letters
from tests.conftest import KEY, PASSWORD, PATIENT
from tests.mail_server import MailServer, mail_server
from tests.web.conftest import ORIGIN, Browser, Join, field, text

ADDRESS = "susan@example.org"
NEW = "an entirely different phrase"
ASK = "/auth/reset_password_request"
JSON = {"Accept": "application/json"}


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    async with mail_server() as server:
        yield server


@pytest.fixture
def settings(database: str, mails: MailServer) -> Settings:
    return Settings(
        database_url=database,
        secret_key=KEY,
        public_url=ORIGIN,
        smtp_url=mails.url,
        mail_from="Microblog <noreply@example.org>",
    )


@pytest.fixture
def mail_timeouts() -> Timeouts:
    return replace(PATIENT, mail_pause=0.0, mail_retry=0.01, mail_on_close=0.0)


@pytest.fixture
async def app(settings: Settings, mail_timeouts: Timeouts) -> AsyncIterator[Quart]:
    app = create_app(settings, mail_timeouts)
    async with app.test_app():
        yield app


@pytest.fixture
async def susan(stranger: Browser) -> Browser:
    """susan's browser, signed in."""
    answer = await stranger.register("susan", email=ADDRESS)
    assert answer.status_code == 303, await text(answer)
    return stranger


@pytest.fixture
def other(app: Quart) -> Browser:
    """A browser without a session."""
    return Browser(app.test_client())


async def ask(browser: Browser, name: str = "susan", **headers: str) -> Response:
    return await browser.post(ASK, username=name, headers=headers)


async def password_link(browser: Browser, mails: MailServer, name: str = "susan") -> str:
    count = len(mails.mails)
    assert (await ask(browser, name)).status_code == 303
    return (await mails.arrived(count + 1))[-1].link


async def reset(browser: Browser, link: str, password: str = NEW) -> Response:
    return await browser.post(link, password=password, password2=password)


async def change(browser: Browser, email: str, password: str = PASSWORD, remove: str | None = None) -> Response:
    return await browser.post("/account", email=email, old_password=password, remove=remove)


async def email_link(browser: Browser, mails: MailServer, email: str) -> str:
    count = len(mails.mails)
    assert (await change(browser, email)).status_code == 303
    mail = (await mails.arrived(count + 1))[-1]
    assert mail.recipients == [email]
    return mail.link


async def stored_email(services: Services, name: str = "susan") -> str | None:
    user = await services.accounts.find(name)
    assert user is not None
    return user.email


async def expire_links(services: Services) -> None:
    await services.storage.write(lambda tx: tx.execute(update(OneTimeLink).values(expires=1)))


async def count_links(services: Services) -> int:
    async with services.storage.reading() as reading:
        return len((await reading.scalars(select(OneTimeLink.token_hash))).all())


# A forgotten password


async def test_forgotten_password_is_set_with_a_link(
    susan: Browser, other: Browser, mails: MailServer, services: Services
) -> None:
    user = await services.accounts.known("susan")
    token = await services.tokens.add(user, "script", [READ_MESSAGES])
    session = Reader(user.id, "")
    link = await password_link(other, mails)
    (mail,) = mails.mails
    assert (mail.sender, mail.recipients) == ("noreply@example.org", [ADDRESS])
    assert (mail.message["From"], mail.message["To"]) == ("Microblog <noreply@example.org>", ADDRESS)
    assert mail.message["Subject"] == "A new password for susan"
    assert mail.message.get_content_type() == "text/plain"
    assert f"{ORIGIN}/auth/reset_password/" in mail.text
    page = await text(await other.get(link))
    assert "Set a new password" in page
    assert field(page, "username") == "susan"
    answer = await reset(other, link)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/auth/login")
    assert (await susan.get("/messages")).status_code == 303
    assert await services.tokens.visit(reader_of(token)) is None
    assert (await services.sessions.all_sessions(session.user_id, 5)).rows == []
    old = await other.post("/auth/login", username="susan", password=PASSWORD)
    assert "Wrong username or password" in await text(old)
    assert (await other.post("/auth/login", username="susan", password=NEW)).status_code == 303


async def test_link_to_set_a_password_works_once(susan: Browser, other: Browser, mails: MailServer) -> None:
    first, second = await password_link(other, mails), await password_link(other, mails)
    assert (await reset(other, first)).status_code == 303
    for link in (first, second):
        answer = await reset(other, link, "yet another long phrase")
        assert answer.status_code == 404
        assert "This link is not valid any more" in await text(answer)
        assert (await other.get(link)).status_code == 404
    assert (await other.post("/auth/login", username="susan", password=NEW)).status_code == 303


async def test_link_opened_twice_at_once_works_once(susan: Browser, other: Browser, mails: MailServer) -> None:
    link, token = await password_link(other, mails), await other.token()
    chosen = [NEW, NEW + "!"]
    answers = await asyncio.gather(
        *(other.post(link, password=each, password2=each, csrf_token=token) for each in chosen)
    )
    assert sorted(each.status_code for each in answers) == [303, 404]
    (set_one,) = [each for each, answer in zip(chosen, answers, strict=True) if answer.status_code == 303]
    assert (await other.post("/auth/login", username="susan", password=set_one)).status_code == 303


async def test_guesses_from_elsewhere_do_not_refuse_the_new_password(
    susan: Browser, other: Browser, app: Quart, mails: MailServer
) -> None:
    guesser = Browser(app.test_client())
    guesses = [await guesser.post("/auth/login", username="susan", password=f"guess {each}") for each in range(11)]
    assert guesses[-1].status_code == 429
    assert (await reset(other, await password_link(other, mails))).status_code == 303
    assert (await other.post("/auth/login", username="susan", password=NEW)).status_code == 303


async def test_opening_a_link_without_the_form_uses_nothing(susan: Browser, other: Browser, mails: MailServer) -> None:
    """Programs of mail providers open links."""
    link = await password_link(other, mails)
    for _ in range(3):
        assert (await other.get(link)).status_code == 200
        assert (await other.client.head(link)).status_code == 200
    weak = await reset(other, link, "password1")
    assert weak.status_code == 422
    assert (await reset(other, link)).status_code == 303


async def test_expired_links_are_refused_and_deleted(
    susan: Browser, other: Browser, mails: MailServer, services: Services
) -> None:
    links = [await password_link(other, mails), await email_link(susan, mails, "new@example.org")]
    await expire_links(services)
    for link in links:
        assert (await other.get(link)).status_code == 404
        assert (await reset(other, link)).status_code == 404
    assert await stored_email(services) == ADDRESS
    await services.accounts.forget_expired()
    assert await count_links(services) == 0


async def test_links_are_for_one_purpose(susan: Browser, other: Browser, mails: MailServer, services: Services) -> None:
    tokens = [
        (await password_link(other, mails)).rpartition("/")[2],
        (await email_link(susan, mails, "new@example.org")).rpartition("/")[2],
        await services.registration.invite(60),
    ]
    wrong = [("/auth/reset_password/", tokens[1:]), ("/account/email/", [tokens[0], tokens[2]])]
    for path, others in wrong:
        for token in [*others, tokens[0][:-1], "x" * 43, "x" * 3000, "%00", "../", "é"]:
            answer = await reset(other, path + token)
            assert answer.status_code in (400, 404), token
    assert await stored_email(services) == ADDRESS
    assert (await other.post("/auth/login", username="susan", password=PASSWORD)).status_code == 303


async def test_link_without_a_form_token_is_refused(susan: Browser, other: Browser, mails: MailServer) -> None:
    link = await password_link(other, mails)
    answer = await other.post(link, password=NEW, password2=NEW, csrf_token=None)
    assert answer.status_code == 403
    foreign = await other.post(link, headers={"Origin": "https://evil.example"}, password=NEW, password2=NEW)
    assert foreign.status_code == 403
    assert (await reset(other, link)).status_code == 303


async def test_asking_does_not_tell_whether_an_account_exists(
    susan: Browser, other: Browser, mails: MailServer, services: Services, join: Join
) -> None:
    """Neither by its text nor by waiting for a mail server, which here does not answer."""
    await join("john")  # without an address
    await services.accounts.register("eve", PASSWORD, "eve@example.org")
    await services.accounts.disable("eve")
    mails.open.clear()
    seen = set()
    for name in ("susan", "john", "eve", "unknown", "", "x" * 3000, "a\r\nBcc: b@example.org"):
        answer = await ask(other, name)
        page = await text(await other.get(answer.headers["Location"]))
        assert "If this account exists" in page
        seen.add((answer.status_code, answer.headers["Location"], str(sorted(answer.headers.keys()))))
    assert len(seen) == 1
    assert mails.mails == []
    mails.open.set()
    (mail,) = await mails.arrived(1)
    assert mail.recipients == [ADDRESS]


class TestBeforeTheResponse:
    @pytest.fixture
    def mail_timeouts(self) -> Timeouts:
        return replace(PATIENT, mail_pause=3600.0, mail_on_close=0.0)

    async def test_nothing_depends_on_the_account(
        self, susan: Browser, other: Browser, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same statements are executed for a name that exists and for one that does not."""
        executed: list[str] = []
        write, row = services.storage.write, services.storage.row

        async def noted_write(*arguments: object, **more: object) -> object:
            executed.append("write")
            return await write(*arguments, **more)  # type: ignore[arg-type]

        async def noted_row(*arguments: object) -> object:
            executed.append("row")
            return await row(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(services.storage, "write", noted_write)
        monkeypatch.setattr(services.storage, "row", noted_row)
        token = await other.token()
        for name in ("susan", "unknown"):
            executed.clear()
            assert (await other.post(ASK, username=name, csrf_token=token)).status_code == 303
            assert executed == ["write"]  # of the limit


async def test_asking_is_limited_for_a_name(susan: Browser, app: Quart, mails: MailServer) -> None:
    for name in ("susan", "unknown"):
        answers = [await ask(Browser(app.test_client()), name) for _ in range(6)]
        assert [each.status_code for each in answers] == [303] * 5 + [429]
        assert "Too many attempts" in await text(answers[-1])
    await mails.arrived(5)


async def test_mails_to_one_address_are_limited(
    app: Quart, services: Services, mails: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Many accounts with the address of another person do not send many mails there."""
    caplog.set_level(logging.INFO, "microblog_rt.security")
    for number in range(7):
        await services.accounts.register(f"user{number}", PASSWORD, "Other@example.org")
        assert (await ask(Browser(app.test_client()), f"user{number}")).status_code == 303
    await mails.arrived(5)
    async with asyncio.timeout(60):
        while "limit_reached" not in caplog.text:
            await asyncio.sleep(0.01)
    assert len(mails.mails) == 5


async def test_user_of_another_site_gets_no_password(
    other: Browser, services: Services, mails: MailServer, susan: Browser
) -> None:
    user_id = await services.site_users.ensure_account("eve")
    await services.storage.write(lambda tx: tx.execute(update(User).where(User.id == user_id).values(email="e@x.org")))
    assert (await ask(other, "eve")).status_code == 303
    await password_link(other, mails)
    assert [each.recipients for each in mails.mails] == [[ADDRESS]]


async def test_disabled_account_has_no_links(
    susan: Browser, other: Browser, mails: MailServer, services: Services
) -> None:
    links = [await password_link(other, mails), await email_link(susan, mails, "new@example.org")]
    await services.accounts.disable("susan")
    await services.accounts.enable("susan")
    for link in links:
        assert (await other.get(link)).status_code == 404


# The address


async def test_address_changes_when_its_link_is_opened(
    susan: Browser, other: Browser, mails: MailServer, services: Services
) -> None:
    link = await email_link(susan, mails, "new@example.org")
    page = await text(await susan.get("/account"))
    assert ADDRESS in page
    assert "new@example.org is not confirmed yet" in page
    assert await stored_email(services) == ADDRESS
    opened = await text(await other.get(link))  # on another device, without a session
    assert "new@example.org" in opened
    assert "susan" in opened
    assert await stored_email(services) == ADDRESS
    assert (await other.post(link)).status_code == 303
    assert await stored_email(services) == "new@example.org"
    told = (await mails.arrived(2))[-1]
    assert told.recipients == [ADDRESS]
    assert told.message["Subject"] == "The email address of susan was changed"
    assert "http" not in told.text
    assert (await other.post(link)).status_code == 404
    page = await text(await susan.get("/account"))
    assert "not confirmed yet" not in page
    assert "new@example.org" in page


async def test_address_link_opened_twice_at_once_works_once(
    susan: Browser, mails: MailServer, services: Services
) -> None:
    link, token = await email_link(susan, mails, "new@example.org"), await susan.token()
    answers = await asyncio.gather(*(susan.post(link, csrf_token=token) for _ in range(3)))
    assert sorted(each.status_code for each in answers) == [303, 404, 404]
    await mails.arrived(2)


async def test_links_end_when_the_address_changes(
    susan: Browser, other: Browser, mails: MailServer, services: Services
) -> None:
    password = await password_link(other, mails)
    first = await email_link(susan, mails, "first@example.org")
    second = await email_link(susan, mails, "second@example.org")
    assert (await susan.post(first)).status_code == 404  # replaced
    assert (await susan.post(second)).status_code == 303
    await mails.arrived(4)
    assert (await reset(other, password)).status_code == 404  # it was sent to the former address
    back = await email_link(susan, mails, ADDRESS)
    assert (await susan.post(back)).status_code == 303
    for link in (first, second, back):
        assert (await susan.post(link)).status_code == 404
    assert await stored_email(services) == ADDRESS


async def test_new_password_ends_links(susan: Browser, other: Browser, mails: MailServer, services: Services) -> None:
    links = [await email_link(susan, mails, "new@example.org"), await password_link(other, mails)]
    answer = await susan.post("/auth/change_password", old_password=PASSWORD, password=NEW, password2=NEW)
    assert answer.status_code == 303
    for link in links:
        assert (await other.get(link)).status_code == 404


async def test_address_is_removed_and_told(susan: Browser, mails: MailServer, services: Services) -> None:
    link = await email_link(susan, mails, "new@example.org")
    assert (await change(susan, "", remove="y")).status_code == 303
    assert await stored_email(services) is None
    assert (await mails.arrived(2))[-1].recipients == [ADDRESS]
    assert (await susan.get(link)).status_code == 404
    page = await text(await susan.get("/account"))
    assert "You have no email address here." in page
    assert 'name="remove"' not in page


async def test_change_needs_the_current_password(susan: Browser, mails: MailServer, services: Services) -> None:
    for remove in (None, "y"):
        answer = await change(susan, "new@example.org", "wrong", remove)
        assert answer.status_code == 422
        assert "This is not your current password." in await text(answer)
    assert await count_links(services) == 0
    assert await stored_email(services) == ADDRESS


HOSTILE = [
    "",
    "susan",
    "a@b",
    "a@example.org\r\nBcc: b@example.org",
    "a@example.org\nBcc: b@example.org",
    "a\r@example.org",
    "a@example.org,b@example.org",
    "a,b@example.org",
    "a;b@example.org",
    "<a@example.org",
    "a>@example.org",
    '"a b"@example.org',
    "a@example.org>\x20SIZE=1",
    "a@exa\x01mple.org",
    "a\x00@example.org",
    "a@example\u2028.org",
    "a\u202e@example.org",
    "a(b)@example.org",
    "a..b@example.org",
    "a@example..org",
    "a@[127.0.0.1].org",
    "\u00fc@example.org",
    "a" * 250 + "@example.org",
]


@pytest.mark.parametrize("address", HOSTILE)
async def test_hostile_address_is_refused(address: str, susan: Browser, mails: MailServer, services: Services) -> None:
    answer = await change(susan, address)
    assert answer.status_code in (400, 422)
    assert await count_links(services) == 0
    assert await stored_email(services) == ADDRESS
    assert mails.attempts == 0


async def test_stored_hostile_address_gets_no_mail(
    susan: Browser, other: Browser, mails: MailServer, services: Services
) -> None:
    """One of an earlier release."""
    await services.accounts.register("john", PASSWORD, "john@example.org")
    evil = "a@example.org\nBcc: b@example.org"
    await services.storage.write(lambda tx: tx.execute(update(User).where(User.username == "john").values(email=evil)))
    assert (await ask(other, "john")).status_code == 303
    await password_link(other, mails)
    assert [each.recipients for each in mails.mails] == [[ADDRESS]]


async def test_international_domain_is_sent_in_ascii(susan: Browser, mails: MailServer, services: Services) -> None:
    assert (await change(susan, "susan@b\u00fccher.example")).status_code == 303
    (mail,) = await mails.arrived(1)
    assert mail.recipients == ["susan@xn--bcher-kva.example"]
    assert (await susan.post(mail.link)).status_code == 303
    assert await stored_email(services) == "susan@b\u00fccher.example"


async def test_same_address_is_refused(susan: Browser) -> None:
    answer = await change(susan, ADDRESS)
    assert answer.status_code == 422
    assert "This is your email address already." in await text(answer)


async def test_changes_are_limited(susan: Browser, mails: MailServer) -> None:
    answers = [await change(susan, f"new{number}@example.org") for number in range(6)]
    assert [each.status_code for each in answers] == [303] * 5 + [429]
    await mails.arrived(5)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "localhost@evil.example", "localhost:81"])
async def test_link_does_not_follow_the_host_header(
    host: str, susan: Browser, other: Browser, mails: MailServer
) -> None:
    answer = await ask(other, Host=host)
    assert answer.status_code in (400, 403)
    assert (await ask(other, **{"X-Forwarded-Host": host, "Forwarded": f"host={host}"})).status_code == 303
    (mail,) = await mails.arrived(1)
    assert "evil" not in mail.text
    assert f"{ORIGIN}/auth/reset_password/" in mail.text


async def test_link_is_below_the_path_prefix(settings: Settings) -> None:
    app = create_app(replace(settings, path_prefix="/blog"))
    async with app.test_request_context("/"):
        links = [letters.password_link().filled("susan", "token")[1], letters.email_link().filled("susan", "token")[1]]
    await app.extensions["services"].close()
    assert f"\n{ORIGIN}/blog/auth/reset_password/token\n" in links[0]
    assert f"\n{ORIGIN}/blog/account/email/token\n" in links[1]


async def test_mails_are_in_the_language_of_the_request(susan: Browser, other: Browser, mails: MailServer) -> None:
    assert (await ask(other, **{"Accept-Language": "es"})).status_code == 303
    (mail,) = await mails.arrived(1)
    assert mail.message["Subject"] == "Una contraseña nueva para susan"
    assert "El enlace sirve una sola vez" in mail.text
    assert "%" not in mail.text


async def test_account_page_needs_a_session(other: Browser) -> None:
    assert (await other.get("/account", headers={"Accept": "text/html"})).status_code == 303
    assert (await other.get("/account", headers=JSON)).status_code == 401


async def test_program_gets_problems(susan: Browser, other: Browser) -> None:
    link = await other.get("/auth/reset_password/unknown", headers=JSON)
    assert (link.status_code, (await link.get_json())["code"]) == (404, "not_found")
    wrong = await susan.post("/account", headers=JSON, email="x", old_password=PASSWORD)
    assert (wrong.status_code, (await wrong.get_json())["code"]) == (422, "invalid")


async def test_refused_mail_is_logged_without_its_address(
    susan: Browser, other: Browser, mails: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    mails.answers = ["451 Later", "550 <susan@example.org> unknown"]
    assert (await ask(other)).status_code == 303
    async with asyncio.timeout(60):
        while "mail not sent, attempt 2: SMTPDataError 550" not in caplog.text:
            await asyncio.sleep(0.01)
    assert (mails.attempts, mails.mails) == (2, [])
    assert ADDRESS not in caplog.text


class TestWithoutMail:
    @pytest.fixture
    def settings(self, database: str, contact: str | None) -> Settings:
        return Settings(database_url=database, secret_key=KEY, contact=contact)

    @pytest.mark.parametrize(
        ("contact", "shown"), [(None, "the operator of this site"), ("admin@example.org", "admin@example.org")]
    )
    async def test_pages_name_the_contact(self, shown: str, susan: Browser, other: Browser, services: Services) -> None:
        for browser, path in ((other, ASK), (susan, "/account")):
            page = await text(await browser.get(path))
            assert "This site sends no mail." in page
            assert shown in page
        assert 'name="username"' not in await text(await other.get(ASK))
        for answer in (await ask(other), await change(susan, "new@example.org")):
            assert answer.status_code == 403
            assert "This site sends no mail." in await text(answer)
        assert (await change(susan, "", remove="y")).status_code == 303
        assert await stored_email(services) is None

    @pytest.mark.parametrize("contact", ["https://example.org/help <b>"])
    async def test_contact_is_a_link_and_no_markup(self, other: Browser) -> None:
        page = await text(await other.get(ASK))
        assert 'href="https://example.org/help"' in page
        assert "<b>" not in page


class TestOtherLimit:
    @pytest.fixture
    def settings(self, database: str, mails: MailServer, limit: Limit | None) -> Settings:
        return Settings(
            database_url=database,
            secret_key=KEY,
            public_url=ORIGIN,
            smtp_url=mails.url,
            mail_from="noreply@example.org",
            mail_limit=limit,
            trusted_hops=1,
        )

    @pytest.mark.parametrize(("limit", "allowed"), [(Limit(1, 60), 1), (None, 8)])
    async def test_limit_is_a_setting(self, allowed: int, other: Browser) -> None:
        answers = [(await ask(other, "unknown")).status_code for _ in range(8)]
        assert answers == [303] * allowed + [429] * (8 - allowed)

    @pytest.mark.parametrize("limit", [Limit(1, 60)])
    async def test_asking_is_limited_for_a_client_address(self, other: Browser) -> None:
        """Four times as many as for a name."""
        for address in ("192.0.2.1", "192.0.2.2"):
            header = {"X-Forwarded-For": address}
            answers = [(await ask(other, f"{number}@{address}", **header)).status_code for number in range(5)]
            assert answers == [303] * 4 + [429]

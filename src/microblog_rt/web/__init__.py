"""Quart: pages, forms, errors, and the endpoint of every transport.

hosts.py          client address, allowed hosts and the own origin
origins.py        origins of other sites (CORS)
authentication.py session cookies, access tokens; one ``authenticate`` for pages, polls and sockets
tabs.py           limits on open connections
known_devices.py  the device cookie
flashes.py        sentences for the next page
forms.py          WTForms with a CSRF token
languages.py      the language of a page
preferences.py    the language and the theme that were chosen; footer.py: the form
templates.py      rendering
problems.py       errors as HTTP statuses: an HTML page or problem+json
sentences.py      the sentence for each error reason
auth.py, account.py, recovery.py, sessions.py, tokens.py   the pages of one's account
people.py, posts.py, mentions.py, messages.py, conversations.py   the other pages
letters.py        the mails
message_text.py   the HTML of a text
static_files.py   files that browsers keep
reference.py      the reference of the API
health.py         liveness and readiness
metrics.py        metrics for the operator
mount.py          the application below a path of another site
direct.py         what the push edge answers without Quart
admission.py      which requests for ``/notifications`` are answered, on every transport
api/              the JSON API
notifications.py  the ASGI application: polls, and what other modules serve without Quart
socket.py         ``/notifications`` as a WebSocket; http_stream.py, formats.py: as a stream
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from quart import Quart, Response, request

from microblog_rt import files
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.web import (
    account,
    auth,
    conversations,
    footer,
    forms,
    health,
    known_devices,
    languages,
    mentions,
    messages,
    metrics,
    people,
    posts,
    preferences,
    problems,
    recovery,
    reference,
    sessions,
    static_files,
    templates,
    tokens,
)
from microblog_rt.web.admission import HSTS, Admission, check_text
from microblog_rt.web.api import Api
from microblog_rt.web.api.callers import Callers
from microblog_rt.web.authentication import Authentication
from microblog_rt.web.body_limits import LONGEST_BODY, LimitedRequest
from microblog_rt.web.direct import Direct, FormSends
from microblog_rt.web.flashes import Flashes
from microblog_rt.web.hosts import FOR_OPERATORS, Hosts
from microblog_rt.web.message_text import message_text
from microblog_rt.web.mount import Mount
from microblog_rt.web.notifications import Endpoint

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
VARY = "Accept, Accept-Language, Cookie"  # what a page depends on, beside its address


def create(settings: Settings, secret_keys: Sequence[str], services: Services) -> Quart:
    """The Quart application, wrapped in the endpoint of ``/notifications``."""
    app = Quart(
        "microblog_rt",
        static_folder=None,
        template_folder=str(files.TEMPLATES),
        root_path=str(files.PACKAGE),
    )
    app.request_class = LimitedRequest
    # Quart asks at each call of a hook or a view whether it is a coroutine function: 5 % of a send (measured).
    app.ensure_async = lru_cache(maxsize=1000)(app.ensure_async)  # type: ignore[method-assign]
    app.secret_key, *app.config["SECRET_KEY_FALLBACKS"] = secret_keys
    cookies = Cookies(settings)
    _configure(app, settings)
    app.extensions["services"] = services
    hosts = Hosts(settings)
    _check_hosts(app, hosts)
    static_files.init(app)
    preferences.init(app, cookies.preferences, cookies.attributes)
    languages.init(app)
    footer.init(app)
    problems.init(app)
    known_devices.init(app, cookies.device, cookies.attributes)
    flashes = Flashes(app, cookies.flash, secret_keys, cookies.attributes)
    forms.init(
        app, settings, cookies.browser, cookies.attributes
    )  # before authentication: a cross-site request costs no query
    authentication = Authentication(
        app, services.accounts, services.sessions, services.site_users, cookies.session, cookies.attributes
    )
    app.before_request(forms.check_owner)
    # A set, since some pages add to the blueprint of others.
    for blueprint in {pages.blueprint for pages in PAGES}:
        app.register_blueprint(blueprint)
    _add_headers(app, settings)
    admission = app.extensions["admission"] = Admission(authentication, hosts, settings)
    callers = Callers(authentication, services, settings, secret_keys, cookies.browser)
    api = Api(callers, admission, services, settings)
    sends = FormSends(
        admission,
        authentication,
        flashes,
        cookies.browser,
        cookies.preferences,
        secret_keys,
        _direct_headers(settings),
        services,
        settings,
    )
    app.extensions["direct"] = Direct(sends, api)
    endpoint = Endpoint(app.asgi_app, admission, authentication, hosts, services, settings, api)
    prefix = settings.path_prefix
    app.asgi_app = Mount(endpoint, prefix, admission) if prefix else endpoint  # type: ignore[method-assign]
    templates.init(app)
    return app


PAGES = (
    *(people, posts, mentions, messages, conversations, footer, reference, health, metrics),
    *(auth, account, recovery, sessions, tokens),
)


class Cookies:
    """Names and attributes of cookies.

    Browsers do not separate the ports of a host, nor paths that begin in the same way, so other instances there have
    other names.
    """

    def __init__(self, settings: Settings) -> None:
        path = settings.path_prefix
        self.attributes: dict[str, Any] = {
            "path": path or "/",
            "secure": settings.secure,
            "httponly": True,
            "samesite": "Lax",
        }
        # Browsers accept __Host- only with the path "/", with which the other site of the host would get the cookies.
        prefix = ("__Secure-microblog" if path else "__Host-microblog") if settings.secure else "microblog"
        if settings.public_url:
            port = urlsplit(settings.public_url).port
            suffix = f"_{port}" if port else ""
        else:
            suffix = "_" + sha256(_database(settings).encode()).hexdigest()[:8]
        suffix += path.replace("/", "_")
        self.session = f"{prefix}_session{suffix}"
        self.browser = f"{prefix}_browser{suffix}"
        self.device = f"{prefix}_device{suffix}"
        self.flash = f"{prefix}_flash{suffix}"
        self.preferences = f"{prefix}_preferences{suffix}"


def _database(settings: Settings) -> str:
    """What identifies the database; for PostgreSQL its name, since hosts reach it by different addresses."""
    if settings.sqlite_file is not None:
        return str(settings.sqlite_file.resolve())
    return urlsplit(settings.database_url).path


def _configure(app: Quart, settings: Settings) -> None:
    app.config.update(
        MAX_CONTENT_LENGTH=LONGEST_BODY,
        # The server has deadlines for both (``timeouts.py``); a task for each would cost 3 % of a send.
        BODY_TIMEOUT=None,
        RESPONSE_TIMEOUT=None,
        METRICS_TOKEN=settings.metrics_token,
        PUBLIC_URL=settings.public_url,
        SITE_URL=(settings.public_url or "") + settings.path_prefix,  # of links in mails
        CONTACT=settings.contact,
        REGISTRATION=settings.registration,
        BEHIND_PROXY=settings.trusted_hops > 0 or settings.public_url is not None,
    )
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.add_template_filter(message_text)
    app.add_template_filter(people.avatar)
    heartbeat = f"{settings.heartbeat:g}"

    @app.context_processor
    async def page_attributes() -> dict[str, object]:
        return {
            "heartbeat": heartbeat,
            "prefix": settings.path_prefix,
            "registration": settings.registration,
            "demo": settings.demo,
        }


def _check_hosts(app: Quart, hosts: Hosts) -> None:
    @app.before_request
    async def check_host() -> None:
        if request.path not in FOR_OPERATORS:
            hosts.check_host(request.scope)
            check_text(request.scope)


def _headers(settings: Settings) -> dict[str, str]:
    return HEADERS | ({"Strict-Transport-Security": HSTS} if settings.secure else {})


def _direct_headers(settings: Settings) -> list[tuple[bytes, bytes]]:
    fields = _headers(settings) | {"Cache-Control": "no-store", "Vary": VARY}
    return [(name.lower().encode(), value.encode()) for name, value in fields.items()]


def _add_headers(app: Quart, settings: Settings) -> None:
    headers = _headers(settings)

    @app.after_request
    async def add_headers(response: Response) -> Response:
        response.headers.update(headers)
        response.headers["Cache-Control"] = static_files.cache_control(response)
        if request.endpoint != static_files.ENDPOINT:
            response.headers["Vary"] = VARY
        return response

"""Flashes: sentences for the next page that is rendered, in a signed cookie.

Quart's session, which would keep them, is read and signed for every request: 13 % of a send (measured).
"""

import binascii
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, cast

from quart import Quart, Response, current_app, g, request
from quart.sessions import SessionInterface
from quart.wrappers import BaseRequestWebsocket
from werkzeug.http import dump_cookie

from microblog_rt.secret_key import mac

Flash = tuple[str, str]  # the category and the sentence


class NoSession(SessionInterface):
    """Quart without its session."""

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> None:
        """Neither read nor, later, send a cookie."""


class Flashes:
    """The flashes of ``app``; the first of ``keys`` signs the cookie, and all verify it."""

    def __init__(self, app: Quart, cookie_name: str, keys: Sequence[str], attributes: dict[str, Any]) -> None:
        self._cookie_name = cookie_name
        self._keys = keys
        self._attributes = attributes
        app.session_interface = NoSession()  # type: ignore[assignment]
        app.extensions["flashes"] = self
        app.jinja_env.globals["take_flashes"] = self.take
        app.after_request(self._send)

    def add(self, sentence: str, category: str) -> None:
        """Show a sentence on the next page, once."""
        self._change(_appended(self._pending(), (category, sentence)))

    def cookie_with(self, cookies: Mapping[str, str], sentence: str, category: str) -> str:
        """The Set-Cookie of a response that adds a sentence to the flashes in a request's ``cookies``."""
        flashes = _appended(self._read(cookies.get(self._cookie_name, "")), (category, sentence))
        return dump_cookie(self._cookie_name, self._signed(flashes), **self._attributes)

    def take(self) -> list[Flash]:
        """The flashes to show now, oldest first."""
        taken = self._pending()
        if taken:
            self._change([])
        return taken

    def _pending(self) -> list[Flash]:
        if "flashes" not in g:
            g.flashes = self._read(request.cookies.get(self._cookie_name, ""))
        return cast(list[Flash], g.flashes)

    def _change(self, flashes: list[Flash]) -> None:
        g.flashes, g.flashes_changed = flashes, True

    def _read(self, cookie: str) -> list[Flash]:
        payload, _, signature = cookie.partition(".")
        if not any(hmac.compare_digest(_signature(key, payload), signature.encode()) for key in self._keys):
            return []
        try:
            return [(category, sentence) for category, sentence in json.loads(urlsafe_b64decode(payload))]
        except (ValueError, TypeError):  # of another release
            return []

    async def _send(self, response: Response) -> Response:
        if "flashes_changed" in g:
            if g.flashes:
                response.set_cookie(self._cookie_name, self._signed(g.flashes), **self._attributes)
            else:
                response.delete_cookie(self._cookie_name, **self._attributes)
        return response

    def _signed(self, flashes: list[Flash]) -> str:
        payload = urlsafe_b64encode(json.dumps(flashes).encode()).decode()
        return f"{payload}.{_signature(self._keys[0], payload).decode()}"


def _appended(flashes: list[Flash], flash: Flash) -> list[Flash]:
    # Each once: a client that renders no page would fill its cookie.
    return flashes if flash in flashes else [*flashes, flash]


def flash(sentence: str, category: str) -> None:
    """Show a sentence on the next page."""
    _flashes().add(sentence, category)


def forget_flashes() -> None:
    """Show none of those that wait: they belong to the session before."""
    _flashes().take()


def _flashes() -> Flashes:
    return cast(Flashes, current_app.extensions["flashes"])


def _signature(key: str, payload: str) -> bytes:
    return binascii.hexlify(mac(key, "flashes", payload))

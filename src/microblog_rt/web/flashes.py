"""Flashes: sentences for the next page that is rendered, in a signed cookie.

Quart's session, which would keep them, is read and signed for every request: 13 % of a send (measured).
"""

import binascii
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import cast

from quart import Quart, Response, current_app, g, request
from quart.sessions import SessionInterface
from quart.wrappers import BaseRequestWebsocket

from microblog_rt.secret_key import mac

Flash = tuple[str, str]  # the category and the sentence


class NoSession(SessionInterface):
    """Quart without its session."""

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> None:
        """Neither read nor, later, send a cookie."""


class Flashes:
    """The flashes of ``app``; the first of ``keys`` signs the cookie, and all verify it."""

    def __init__(self, app: Quart, cookie_name: str, keys: Sequence[str], *, secure: bool) -> None:
        self._cookie_name = cookie_name
        self._keys = keys
        self._secure = secure
        app.session_interface = NoSession()  # type: ignore[assignment]
        app.extensions["flashes"] = self
        app.jinja_env.globals["take_flashes"] = self.take
        app.after_request(self._send)

    def add(self, sentence: str, category: str) -> None:
        """Show a sentence on the next page, once."""
        # A client that renders no page would fill its cookie.
        if (category, sentence) not in self._pending():
            self._change([*self._pending(), (category, sentence)])

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
                payload = urlsafe_b64encode(json.dumps(g.flashes).encode()).decode()
                cookie = f"{payload}.{_signature(self._keys[0], payload).decode()}"
                response.set_cookie(self._cookie_name, cookie, secure=self._secure, httponly=True, samesite="Lax")
            else:
                response.delete_cookie(self._cookie_name, secure=self._secure, httponly=True, samesite="Lax")
        return response


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

"""Who knocks, and at which name: the client's address behind proxies, and the hosts that this server answers to.

Not here: whether a request comes from our own pages (``origin.py``), and who is signed in (``authentication.py``).
"""

import logging
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from microblog_rt.errors import N_, BadRequest
from microblog_rt.settings import LOOPBACK, Settings

log = logging.getLogger(__name__)

FORWARDED_FOR = b"x-forwarded-for"
FORWARDED = {FORWARDED_FOR, b"forwarded", b"x-real-ip"}
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::[0-9]{1,5})?", re.ASCII)
HOME_PREFIX = 64  # what a provider gives to one home: counted as one address


class Hosts:
    """The same questions for every request, whatever its transport."""

    def __init__(self, settings: Settings) -> None:
        self._hops = settings.trusted_hops
        self._warned = False
        public = urlsplit(settings.public_url or "")
        self._public = public.netloc
        self._names = LOOPBACK | ({settings.bind_host.lower()} if settings.bind_host else set())

    def address(self, scope: Any) -> str:
        """Whom a request counts for: the client's address, an IPv6 one with all others of its home; "" if unknown.

        Each trusted proxy has added one address to ``X-Forwarded-For``; what stands before those is anybody's word.
        """
        peer = (scope.get("client") or ("",))[0]
        headers = scope["headers"]
        if not self._hops:
            self._warn_once(headers)
            return _counted(peer)
        added = [part.strip() for value in _values(headers, FORWARDED_FOR) for part in value.split(",")]
        seen = added[-self._hops] if len(added) >= self._hops else ""
        return _counted(name_of(seen.lower()) or seen) or _counted(peer)  # some proxies add a port

    def check_host(self, scope: Any) -> None:
        """Raise BadRequest unless the request names this server as one may: a foreign name is somebody's trick."""
        hosts = [value.lower() for value in _values(scope["headers"], b"host")]
        if len(hosts) != 1 or not self._is_ours(hosts[0], scope):
            raise BadRequest(FOREIGN_HOST)

    def _is_ours(self, host: str, scope: Any) -> bool:
        if self._public:
            return host in (self._public, f"{self._public}:443")
        name = name_of(host)
        return bool(name) and (name in self._names or name == (scope.get("server") or ("",))[0])

    def _warn_once(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if not self._warned and any(name in FORWARDED for name, _ in headers):
            self._warned = True
            log.warning("a proxy forwards requests, and is not believed; if it is yours, set MICROBLOG_TRUSTED_HOPS")


FOREIGN_HOST = N_("This server is not called that. Its operator names it with --bind or MICROBLOG_PUBLIC_URL.")


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> Sequence[str]:
    return [value.decode("latin-1") for name, value in headers if name == wanted]


def name_of(host: str) -> str:
    """The name in a Host header; "" where that is anything else than a name and a port."""
    match = HOST.fullmatch(host)
    return (match[1] or match[2]) if match else ""


def _counted(text: str) -> str:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ip_network((address, HOME_PREFIX), strict=False))

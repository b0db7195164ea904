"""The client's address behind proxies, the allowed Host headers and the allowed origins."""

import logging
import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from microblog_rt.addresses import counted, unmapped
from microblog_rt.errors import HostUnknown, OriginForeign, OriginMissing
from microblog_rt.public_url import DEFAULT_PORTS
from microblog_rt.settings import LOOPBACK, Settings

log = logging.getLogger(__name__)

OWN_SITES = {"same-origin", "none"}  # none: typed or a bookmark; another port of this host would be same-site
ORIGIN_HEADERS = {b"origin", b"host", b"sec-fetch-site"}
FORWARDED_FOR = b"x-forwarded-for"
FORWARDED = {FORWARDED_FOR, b"forwarded", b"x-real-ip"}
FOR_OPERATORS = {"/healthz", "/readyz", "/metrics"}  # any Host, and not through the proxies
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::[0-9]{1,5})?", re.ASCII)
UNVERIFIED = "unverified "  # before an address that not every trusted proxy has confirmed: counted apart
# As it arrives: an address, or labels of at most 63 characters.
HEADER = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?)(?::[0-9]{1,5})?", re.ASCII)
LONGEST_HOST = 253 + len(".:65535")


class Hosts:
    """Checks that apply to requests of every transport."""

    def __init__(self, settings: Settings) -> None:
        self._hops = settings.trusted_hops
        self._warned: set[str] = set()
        public = urlsplit(settings.public_url or "")
        self._public = {public.netloc, f"{public.netloc}:{DEFAULT_PORTS[public.scheme]}"} if public.netloc else set()
        self._names = LOOPBACK | {host.lower() for host in settings.bind_hosts}

    def client_address(self, scope: Any) -> str:
        """The client's address for rate limits (for IPv6, its /64 network); "" if unknown.

        Each trusted proxy has appended one address to ``X-Forwarded-For``; earlier entries can be forged. A request
        with fewer addresses has not come through all of them: its address begins with ``UNVERIFIED``.
        """
        peer = counted((scope.get("client") or ("",))[0])
        headers = scope["headers"]
        if not self._hops:
            if any(name in FORWARDED for name, _ in headers):
                self._warn_once("forwarding headers ignored: set MICROBLOG_TRUSTED_HOPS if there is a trusted proxy")
            return peer
        added = [_forwarded(part) for value in values(headers, FORWARDED_FOR) for part in value.split(",")]
        client = added[-self._hops] if len(added) >= self._hops else ""
        if not client:
            return self._unverified(scope, next(filter(None, added), peer))
        if len(added) > self._hops and ip_address(client.partition("/")[0]).is_private:
            self._warn_once(
                "X-Forwarded-For has more addresses than MICROBLOG_TRUSTED_HOPS, and a private one is counted: if that "
                "is another proxy's, all its clients count as one"
            )
        return client

    def _unverified(self, scope: Any, address: str) -> str:
        if scope["path"] not in FOR_OPERATORS:
            self._warn_once(
                "X-Forwarded-For has fewer addresses than MICROBLOG_TRUSTED_HOPS: a request bypassed a proxy, a proxy "
                "does not append the address it sees, or the number is too high"
            )
        return UNVERIFIED + address if address else ""

    def check_host(self, scope: Any) -> None:
        """Raise HostUnknown unless there is one Host header and it names this server (DNS rebinding)."""
        hosts = [value.lower() for value in values(scope["headers"], b"host")]
        if len(hosts) != 1 or not self._is_own(hosts[0], scope):
            raise HostUnknown

    def _is_own(self, host: str, scope: Any) -> bool:
        if self._public:
            return host in self._public
        name = host_name(host)
        return bool(name) and (name in self._names or name == unmapped((scope.get("server") or ("",))[0]))

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning(text)


def check_origin(sent: Iterable[tuple[bytes, bytes]], public_url: str | None, *, required: bool = False) -> None:
    """Raise OriginForeign if the Origin is another site's, OriginMissing if there is none although ``required``.

    The own origin is ``public_url``; without one, plain http at the request's Host. ``Sec-Fetch-Site``, which pages
    cannot set, must agree if it is sent. (RFC 6454; W3C Fetch Metadata.)
    """
    headers = [(name, value) for field, value in sent if (name := field.lower()) in ORIGIN_HEADERS]
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    sites = [value.decode("latin-1") for name, value in headers if name == b"sec-fetch-site"]
    own = public_url or f"http://{hosts[0] if hosts else ''}"
    if (origins and origins != [own]) or not OWN_SITES.issuperset(sites):
        raise OriginForeign
    if required and not origins:
        raise OriginMissing


def is_well_formed(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether every Host header is empty or can be decoded: Quart and IDNA fail on others, or take long."""
    hosts = [value for name, value in headers if name == b"host" and value]
    return all(len(host) <= LONGEST_HOST and HEADER.fullmatch(host) for host in hosts)


def values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> Sequence[str]:
    """The values of the header fields with that name, which is in lower case."""
    return [value.decode("latin-1") for name, value in headers if name == wanted]


def host_name(host: str) -> str:
    """The name in a Host header without its port; "" if the header is malformed."""
    match = HOST.fullmatch(host)
    return (match[1] or match[2]) if match else ""


def _forwarded(part: str) -> str:
    text = part.strip().lower()
    return counted(host_name(text) or text)  # some proxies add a port

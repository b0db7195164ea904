"""The address under which browsers reach this site, and the origins of other sites, as they are configured."""

import re
from urllib.parse import urlsplit

DEFAULT_PORTS = {"https": 443, "http": 80}
DEVIATIONS = frozenset("\u00df\u03c2\u200c\u200d")  # of UTS 46: sharp s, final sigma, joiners
PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-]+)+")


def parse(text: str) -> str:
    """The origin as browsers send it. Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("must be https://HOST or https://HOST:PORT; http:// only on a network that you trust")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must have no path: https://HOST or https://HOST:PORT; MICROBLOG_PATH_PREFIX is for the path")
    port = f":{parts.port}" if parts.port not in (None, DEFAULT_PORTS[parts.scheme]) else ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else _ascii_host(parts.hostname)
    return f"{parts.scheme}://{host}{port}"


def parse_origins(text: str) -> frozenset[str]:
    """The origins in ``text``, separated by commas, as browsers send them. Raises ValueError."""
    return frozenset(parse(each.strip()) for each in text.split(",") if each.strip())


def parse_prefix(text: str) -> str:
    """The path below which this site is, such as /badge; empty if it has its host to itself. Raises ValueError."""
    if text and not PREFIX.fullmatch(text):
        raise ValueError(
            "must be a path such as /badge: it begins with / and does not end with it, and between them are "
            "only ASCII letters, digits, -, _ and ~"
        )
    return text


def _ascii_host(host: str) -> str:
    """The host name as browsers send it."""
    if host.isascii():
        return host
    if DEVIATIONS.intersection(host):  # Python's codec is of 2003, and encodes them differently
        raise ValueError("must have its host name in the ASCII form, xn--...")
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise ValueError("must have a valid host name") from None

"""Whether a request comes from our own pages: Origin, compared exactly, and what the browser says of the site.

Not here: CSRF tokens (``forms.py``).
"""

from collections.abc import Iterable

from microblog_rt.errors import Forbidden

OWN_SITES = {"same-origin", "none"}  # none: typed, or a bookmark; another port of this host would be same-site


def check(sent: Iterable[tuple[bytes, bytes]], public_url: str | None, *, required: bool = False) -> None:
    """Raise Forbidden where the Origin is not ours, or is missing although ``required``.

    Ours is ``public_url``; without one, plain http at the Host that the request names. ``Sec-Fetch-Site``, which no
    page can set, must agree where it is sent. (RFC 6454; W3C Fetch Metadata.)
    """
    headers = [(name.lower(), value.decode("latin-1")) for name, value in sent]
    origins = [value for name, value in headers if name == b"origin"]
    hosts = [value.lower() for name, value in headers if name == b"host"]
    sites = [value for name, value in headers if name == b"sec-fetch-site"]
    ours = public_url or f"http://{hosts[0] if hosts else ''}"
    if origins != [ours] and (origins or required):
        raise Forbidden
    if not OWN_SITES.issuperset(sites):
        raise Forbidden

"""Whether a request comes from our own pages: the Origin header, compared exactly."""

from collections.abc import Iterable

from microblog_rt.errors import Forbidden


def check(sent: Iterable[tuple[bytes, bytes]], public_url: str | None, *, required: bool = False) -> None:
    """Raise Forbidden where the Origin is not ours, or is missing although ``required``.

    Ours is ``public_url``; without one, plain http at the Host that the request names.
    """
    headers = [(name.lower(), value.decode("latin-1")) for name, value in sent]
    origins = [value for name, value in headers if name == b"origin"]
    hosts = [value.lower() for name, value in headers if name == b"host"]
    ours = public_url or f"http://{hosts[0] if hosts else ''}"
    if origins != [ours] and (origins or required):
        raise Forbidden

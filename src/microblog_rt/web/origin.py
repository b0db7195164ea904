"""Whether a request comes from our own pages: the Origin header, compared exactly."""

from collections.abc import Iterable

from microblog_rt.errors import Forbidden


def check(headers: Iterable[tuple[bytes, bytes]], public_url: str | None, *, required: bool = False) -> None:
    """Raise Forbidden where the Origin is not ours, or is missing although ``required``.

    Ours is ``public_url``; without one, plain http at the Host that the request names.
    """
    sent = {name.lower(): value.decode("latin-1") for name, value in headers if name.lower() in NEEDED}
    origin = sent.get(b"origin")
    if origin is None:
        if required:
            raise Forbidden
        return
    if origin != (public_url or f"http://{sent.get(b'host', '').lower()}"):
        raise Forbidden


NEEDED = {b"origin", b"host"}

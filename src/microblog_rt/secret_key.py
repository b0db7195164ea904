"""The keys that sign cookies: the setting, or one created once and kept beside the SQLite file."""

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import tempfile
from collections.abc import Sequence
from errno import ELOOP
from pathlib import Path

from microblog_rt.errors import Misconfigured
from microblog_rt.files import OTHERS
from microblog_rt.keys import is_weak, split_keys
from microblog_rt.settings import Settings

log = logging.getLogger(__name__)


def secret_keys(settings: Settings) -> Sequence[str]:
    """The keys of this installation: the first signs, all verify.

    Raises Misconfigured if there is none and none can be created.
    """
    if settings.secret_key is not None:
        return split_keys(settings.secret_key)
    if settings.sqlite_file is None:
        raise Misconfigured("MICROBLOG_SECRET_KEY is required with this database; set it to a long random value")
    return [_kept_key(settings.sqlite_file.with_name(settings.sqlite_file.name + ".key"))]


def mac(key: str, *parts: str) -> bytes:
    """An authentication code (HMAC-SHA-256) of ``parts``, of which the first names the purpose."""
    return hmac.digest(key.encode(), "|".join(("microblog-rt", *parts)).encode(), hashlib.sha256)


def _kept_key(path: Path) -> str:
    try:
        if not path.exists():
            _create(path)
        with open(path, opener=_open_own) as file:
            key = file.read().strip()
    except OSError as error:
        raise Misconfigured(f"cannot keep a key at {path}: {error.strerror}; or set MICROBLOG_SECRET_KEY") from None
    if is_weak(key):
        raise Misconfigured(f"{path} holds no key; delete it and a new one is created (all sessions end)")
    return key


def _open_own(path: str, flags: int) -> int:
    """Open a file that is no link, belongs to this user, and is from now on readable by no other."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == ELOOP:
            raise Misconfigured(f"{path} is a link; replace it by the file itself") from None
        raise
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        os.close(descriptor)
        raise Misconfigured(f"{path} belongs to another user; run this command as that user, or delete the file")
    if status.st_mode & OTHERS:
        os.fchmod(descriptor, 0o600)
        log.warning("%s was readable by other users; if one may have read it, delete it (all sessions end)", path)
    return descriptor


def _create(path: Path) -> None:
    # Written to a temporary file and linked: no process reads half a key, and of two processes the first one wins.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)

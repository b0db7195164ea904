"""The listening socket, opened before anything else so that its errors are reported at once.

Or inherited from systemd (sd_listen_fds(3)), which keeps it open between two servers: clients that connect meanwhile
wait instead of being refused.
"""

import os
import socket
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL
from ipaddress import ip_address

from microblog_rt.errors import Misconfigured

SYSTEMD = "systemd"
FIRST_INHERITED = 3
INTERNET = (socket.AF_INET, socket.AF_INET6)
BACKLOG = 2048
UNACKNOWLEDGED_SECONDS = 20  # for sent data to be acknowledged by the client's kernel

REASONS = {
    EADDRINUSE: "the port is in use; stop what uses it, or choose another one with --bind HOST:PORT",
    EACCES: "not allowed; ports below 1024 need privileges",
    EADDRNOTAVAIL: "this machine has no such address",
}


def listen(bind: str) -> socket.socket:
    """A socket that listens on ``HOST:PORT`` (``[::1]:8000`` for IPv6), or systemd's. Raises Misconfigured."""
    if bind == SYSTEMD:
        return _with_options(_inherited())
    host, port = split(bind)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return _with_options(socket.create_server(address[:2], family=family, backlog=BACKLOG))
    except OSError as error:
        reason = REASONS.get(error.errno or 0, error.strerror)
        raise Misconfigured(f"cannot listen on {bind}: {reason}") from None


def _with_options(listening: socket.socket) -> socket.socket:
    # Every connection inherits it: the kernel gives up clients that vanished or whose window stays closed.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_SECONDS * 1000)
    return listening


def _inherited() -> socket.socket:
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise Misconfigured("--bind systemd requires one socket from systemd; see deploy/microblog-rt.socket")
    try:
        inherited = socket.socket(fileno=os.dup(FIRST_INHERITED))
    except OSError as error:
        raise Misconfigured(f"systemd's socket cannot be used: {error.strerror}") from None
    if inherited.family not in INTERNET or not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        inherited.close()
        raise Misconfigured("systemd's socket does not listen on an address: it needs ListenStream=HOST:PORT")
    return inherited


def host(bind: str) -> str:
    """The host that ``bind`` listens on. Raises Misconfigured."""
    if bind != SYSTEMD:
        return split(bind)[0]
    with _inherited() as inherited:
        return str(inherited.getsockname()[0])


def split(bind: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``. Raises Misconfigured."""
    host, colon, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise Misconfigured(f"--bind must be HOST:PORT, as in 127.0.0.1:8000, or systemd, not {bind}")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def url(listening: socket.socket) -> str:
    """The URL for a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

"""The listening sockets, opened before anything else so that errors are reported at once.

Or inherited from systemd (sd_listen_fds(3)), which keeps them open between two servers: clients that connect meanwhile
wait instead of being refused.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Sequence
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL
from ipaddress import ip_address

from microblog_rt.errors import Misconfigured

SYSTEMD = "systemd"
UNIX = "unix:"
FIRST_INHERITED = 3
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
BACKLOG = 2048
UNACKNOWLEDGED_SECONDS = 20  # for sent data to be acknowledged by the client's kernel
UNIX_MODE = 0o660  # the proxy's user must be in the group

REASONS = {
    EADDRINUSE: "the port is in use; stop what uses it, or choose another one with --bind HOST:PORT",
    EACCES: "not allowed; ports below 1024 need privileges",
    EADDRNOTAVAIL: "this machine has no such address",
}


def listen(bind: str) -> socket.socket:
    """A socket that listens on ``HOST:PORT`` (``[::1]:8000`` for IPv6) or ``unix:PATH``. Raises Misconfigured.

    ``[::]:PORT`` takes IPv4 connections as well.
    """
    try:
        if bind.startswith(UNIX):
            return _listen_on_path(bind.removeprefix(UNIX))
        host, port = split(bind)
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        both = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        reason = REASONS.get(error.errno or 0, error.strerror)
        raise Misconfigured(f"cannot listen on {bind}: {reason}") from None
    return _with_options(listening)


def listen_all(binds: Sequence[str]) -> list[socket.socket]:
    """The sockets of every ``--bind``, those of ``systemd`` included. Raises Misconfigured."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for bind in binds:
            for each in inherited() if bind == SYSTEMD else [listen(bind)]:
                sockets.append(stack.enter_context(each))
        stack.pop_all()
    return sockets


def _listen_on_path(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    try:
        with contextlib.suppress(FileNotFoundError):
            _remove_unused(path)
        before = os.umask(0o777 & ~UNIX_MODE)
        try:
            listening.bind(path)
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _remove_unused(path: str) -> None:
    """Remove the socket that an ended server has left behind."""
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return  # "address in use", says the kernel
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
        probe.connect(path)
        return
    os.unlink(path)


def _with_options(listening: socket.socket) -> socket.socket:
    # Every connection inherits it: the kernel gives up clients that vanished or whose window stays closed.
    if listening.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_SECONDS * 1000)
    return listening


def inherited() -> list[socket.socket]:
    """The sockets that systemd has opened for this process. Raises Misconfigured."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal() or not int(count):
        raise Misconfigured("--bind systemd requires a socket from systemd; see deploy/microblog-rt.socket")
    return [_inherit(FIRST_INHERITED + number) for number in range(int(count))]


def _inherit(descriptor: int) -> socket.socket:
    try:
        inherited = socket.socket(fileno=os.dup(descriptor))
    except OSError as error:
        raise Misconfigured(f"systemd's socket cannot be used: {error.strerror}") from None
    if inherited.family not in FAMILIES or not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        inherited.close()
        raise Misconfigured("systemd's socket does not listen: it needs ListenStream=HOST:PORT or ListenStream=/PATH")
    return _with_options(inherited)


def hosts(binds: Sequence[str]) -> frozenset[str]:
    """The hosts that ``binds`` listen on; a unix socket has none. Raises Misconfigured."""
    found: set[str] = set()
    for bind in binds:
        if bind == SYSTEMD:
            with contextlib.ExitStack() as stack:
                sockets = [stack.enter_context(each) for each in inherited()]
                found.update(each.getsockname()[0] for each in sockets if each.family != socket.AF_UNIX)
        elif not bind.startswith(UNIX):
            found.add(split(bind)[0])
    return frozenset(found)


def split(bind: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``. Raises Misconfigured."""
    host, colon, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise Misconfigured(f"--bind must be HOST:PORT, as in 127.0.0.1:8000, unix:PATH, or systemd, not {bind}")
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
    """The URL for a browser, or ``unix:PATH``."""
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"{UNIX}{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

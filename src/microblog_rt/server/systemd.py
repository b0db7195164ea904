"""Messages to systemd, if it has started this process with ``Type=notify`` (sd_notify(3))."""

import contextlib
import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def notify(state: str) -> None:
    """Send ``state`` to systemd. Does nothing if systemd has not asked for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or (state == WATCHDOG and "WATCHDOG_USEC" not in os.environ):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(state.encode(), address)

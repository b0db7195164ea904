"""What the kernel says of a server process: its memory, at the peak too, and its descriptors. Linux alone."""

from pathlib import Path

from tests.server_process import Server


def proc(server: Server) -> Path:
    """The kernel's folder on it."""
    assert server.process is not None
    return Path(f"/proc/{server.process.pid}")


class Memory:
    """How much more a server holds, in MiB, than when this was made."""

    def __init__(self, server: Server) -> None:
        self._proc = proc(server)
        (self._proc / "clear_refs").write_text("5")  # the peak is from now on
        self._before = self._kib("VmRSS")

    def growth(self) -> float:
        """Now."""
        return (self._kib("VmRSS") - self._before) / 1024

    def peak(self) -> float:
        """At the worst moment since."""
        return (self._kib("VmHWM") - self._before) / 1024

    def _kib(self, name: str) -> int:
        return int((self._proc / "status").read_text().split(f"{name}:")[1].split()[0])


def descriptors(server: Server) -> int:
    """How many files, sockets and the like it has open."""
    return sum(1 for _ in (proc(server) / "fd").iterdir())


def connections(server: Server) -> int:
    """How many TCP connections it has open; nothing of it goes on when the kernel alone keeps what was sent."""
    return sum(is_socket(each) for each in (proc(server) / "fd").iterdir())


def is_socket(descriptor: Path) -> bool:
    try:
        return str(descriptor.readlink()).startswith("socket:")
    except FileNotFoundError:
        return False  # closed since

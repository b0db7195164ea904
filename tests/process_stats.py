"""Memory, peak memory and descriptors of a server process, from /proc. Linux only."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.server_process import Server


def proc(server: Server) -> Path:
    """Its folder in /proc."""
    assert server.process is not None
    return Path(f"/proc/{server.process.pid}")


class Memory:
    """The memory growth of a server since creation, in MiB."""

    def __init__(self, server: Server) -> None:
        self._proc = proc(server)
        (self._proc / "clear_refs").write_text("5")  # reset the peak
        self._before = self._kib("VmRSS")

    def growth(self) -> float:
        """Now."""
        return (self._kib("VmRSS") - self._before) / 1024

    def peak(self) -> float:
        """The peak since creation."""
        return (self._kib("VmHWM") - self._before) / 1024

    def _kib(self, name: str) -> int:
        return int((self._proc / "status").read_text().split(f"{name}:")[1].split()[0])


def descriptors(server: Server) -> int:
    """The number of its open descriptors, without those of the database, whose pool opens more when it is busy."""
    return sum(".db" not in target for target in _targets(server))


def connections(server: Server) -> int:
    """The number of its open TCP connections, without those that only the kernel still holds."""
    return sum(target.startswith("socket:") for target in _targets(server))


def _targets(server: Server) -> Iterator[str]:
    for each in (proc(server) / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield str(each.readlink())

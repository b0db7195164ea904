"""Memory, peak memory and descriptors of a server process, from /proc. Linux only."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

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
    port = urlsplit(server.environ.get("MICROBLOG_DATABASE_URL", "")).port
    pooled = _sockets_to(port) if port else set()
    return sum(".db" not in target and target not in pooled for target in _targets(server))


def connections(server: Server) -> int:
    """The number of its open TCP connections, without those that only the kernel still holds."""
    return sum(target.startswith("socket:") for target in _targets(server))


def _sockets_to(port: int) -> set[str]:
    """The sockets of this machine that are connected to ``port`` at an IPv4 address, as their descriptors name them."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{line[9]}]" for line in lines if int(line[2].rpartition(":")[2], 16) == port}


def _targets(server: Server) -> Iterator[str]:
    for each in (proc(server) / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield str(each.readlink())

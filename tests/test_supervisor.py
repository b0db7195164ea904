"""Several workers on one socket, one database and one Redis: killed, replaced, stopped, and consistent."""

import asyncio
import contextlib
import errno
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from microblog_rt.server import systemd
from tests.server_process import COMMAND, DEADLINE, Server
from tests.services import Redis
from tests.sockets import change, closed, code, frame, socket_to
from tests.timing import LoadMonitor, awake
from tests.waiting import alive, ready, until

WORKERS = 3
BACK_WITHIN = 3.0  # seconds


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def server(tmp_path: Path, redis: Redis) -> Iterator[Server]:
    # No sweep: everything received here came through Redis.
    environ = {"MICROBLOG_BUS_URL": redis.url, "MICROBLOG_SWEEP": "3600", "MICROBLOG_TABS_PER_USER": ""}
    with Server(tmp_path, "--workers", str(WORKERS), environ=environ) as server:
        yield server


def test_several_workers_require_a_bus(tmp_path: Path) -> None:
    result = subprocess.run([*COMMAND, "serve", "--workers", "2"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert "needs a bus to connect them: MICROBLOG_BUS_URL=sqlite://" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", ["0", "65", "two"])
def test_invalid_number_of_workers_is_refused(tmp_path: Path, workers: str) -> None:
    result = subprocess.run([*COMMAND, "serve", "--workers", workers], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert "--workers" in result.stderr


def test_killed_worker_is_replaced_while_others_serve(server: Server, load_monitor: LoadMonitor) -> None:
    before = server.workers()
    assert len(before) == WORKERS
    victims = sorted(before)[:2]
    for victim in victims:
        kill_and_see_another(server, victim, load_monitor)
    assert server.workers().isdisjoint(victims)
    assert server.logged().count("ended with status -9; starting another in") == 2
    assert server.stop() == 0
    assert not any(map(alive, before))


def kill_and_see_another(server: Server, victim: int, load_monitor: LoadMonitor) -> None:
    start = time.time()
    os.kill(victim, signal.SIGKILL)
    until(lambda: not alive(victim))  # connections it had accepted are lost with it
    for _ in range(30):
        assert httpx.get(f"{server.url}/notifications", timeout=DEADLINE).status_code == 401
    until(lambda: len(server.workers() - {victim}) == WORKERS)
    assert time.time() - start < load_monitor.allows(BACK_WITHIN, start)


def test_all_killed_workers_are_replaced(server: Server, load_monitor: LoadMonitor) -> None:
    before = server.workers()
    start = time.time()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(alive, before)))
    until(lambda: len(server.workers() - before) == WORKERS)
    assert time.time() - start < load_monitor.allows(BACK_WITHIN, start)
    assert httpx.get(f"{server.url}/healthz", timeout=DEADLINE).status_code == 200


async def test_every_worker_receives_messages_and_logouts(server: Server) -> None:
    alice, bob = server.person("alice"), server.person("bob")
    tabs: list[ClientConnection] = []
    while sum(holds_tabs(pid, server.port) > 1 for pid in server.workers()) < 2:
        assert len(tabs) < 50 * WORKERS, "all tabs are with one worker"
        tabs += [await socket_to(bob) for _ in range(8)]
    for tab in tabs:
        await frame(tab)
    await asyncio.to_thread(alice.send, "bob", "to all of you")
    assert {(await change(tab))[0]["data"] for tab in tabs} == {1}
    async with awake() as seconds:
        await asyncio.to_thread(bob.post, "/auth/logout")
        assert {code(await closed(tab)) for tab in tabs} == {4401}
        assert seconds() < 1
    alice.close()
    bob.close()


def holds_tabs(pid: int, port: int) -> int:
    """The number of connections to ``port`` that a process holds."""
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01"
    }
    links = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()]
    return sum(f"socket:[{inode}]" in links for inode in inodes)


async def test_ctrl_c_drains_all_workers(tmp_path: Path, redis: Redis) -> None:
    """A terminal's Ctrl-C reaches every process of the group; for the workers it must not be a second signal."""
    environ = {"MICROBLOG_BUS_URL": redis.url, "MICROBLOG_DRAIN": "2"}
    with Server(tmp_path, "--workers", "2", environ=environ) as server:
        bob = server.person("bob")
        tabs = [await socket_to(bob) for _ in range(12)]
        workers = server.workers()
        assert server.process is not None
        start = time.monotonic()
        os.killpg(server.process.pid, signal.SIGINT)
        assert await asyncio.to_thread(server.ended) == 0
        assert time.monotonic() - start > 1
        assert {code(await closed(tab)) for tab in tabs} == {1012}
        assert not any(map(alive, workers))
        assert server.warnings_logged() == []
        bob.close()


async def test_signal_to_the_process_group_counts_once(tmp_path: Path, redis: Redis) -> None:
    """As systemd stops a service: it signals every process, and the supervisor forwards its signal too."""
    environ = {"MICROBLOG_BUS_URL": redis.url, "MICROBLOG_DRAIN": "2"}
    with Server(tmp_path, "--workers", "2", environ=environ) as server:
        bob = server.person("bob")
        tabs = [await socket_to(bob) for _ in range(12)]
        start = time.monotonic()
        workers = server.workers()
        server.signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: not ready(server))
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):  # one that had no tabs has ended
                os.kill(pid, signal.SIGTERM)
        ends = [await closed(tab) for tab in tabs]
        assert await asyncio.to_thread(server.ended) == 0
        assert time.monotonic() - start > 1
        # No tab is sent back to a worker that is still draining.
        assert all(end.rcvd and int(end.rcvd.reason) >= 2000 for end in ends)
        bob.close()


async def test_second_signal_is_forwarded_to_workers(tmp_path: Path, redis: Redis, load_monitor: LoadMonitor) -> None:
    environ = {"MICROBLOG_BUS_URL": redis.url, "MICROBLOG_DRAIN": "600"}
    with Server(tmp_path, "--workers", "2", environ=environ) as server:
        bob = server.person("bob")
        tabs = [await socket_to(bob) for _ in range(6)]
        server.signal(signal.SIGTERM)
        await asyncio.wait([asyncio.create_task(closed(tab)) for tab in tabs], return_when="FIRST_COMPLETED")
        start = time.time()
        assert await asyncio.to_thread(server.stop) == 0
        assert time.time() - start < load_monitor.allows(5, start)
        bob.close()


def test_connection_during_shutdown_is_refused_at_once(server: Server) -> None:
    """Rather than accepted by a socket that is still open, and cut when the last worker has ended."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as held:
        held.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\nExpect: 100-continue\r\n\r\n")
        assert held.recv(99).startswith(b"HTTP/1.1 100 ")
        server.signal(signal.SIGTERM)
        until(lambda: refused(server.port))
        assert server.workers(), "it is refused because everything has ended"
    assert server.ended() == 0


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_workers_do_not_outlive_their_supervisor(server: Server) -> None:
    workers = server.workers()
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not any(map(alive, workers)))


BROKEN = """
import sys
from microblog_rt.server.supervisor import Supervisor

def work(ready):
    raise RuntimeError("broken on purpose")

sys.exit(Supervisor(work, 2, 5.0, lambda: None).run(lambda: print("serving")))
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=DEADLINE)


def test_workers_that_cannot_start_stop_the_supervisor() -> None:
    result = run(BROKEN)
    assert (result.returncode, result.stdout) == (1, "")
    assert "broken on purpose" in result.stderr


FOREIGN = """
import os, signal, sys, time
from microblog_rt.server.supervisor import Supervisor

go, come = os.pipe()
foreign = os.fork()
if not foreign:
    os.close(come)
    os.read(go, 1)  # its end: the workers serve
    os._exit(7)

def work(ready):
    os.close(come)
    class Stop:
        def when_readable(self, descriptor): pass
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    ready(Stop())
    time.sleep(60)

class Watching(Supervisor):
    signalled = False
    def _reap(self):
        super()._reap()
        try:
            os.kill(foreign, 0)
        except ProcessLookupError:  # it was reaped, here
            if not self.signalled:  # a second time would be "now"
                self.signalled = True
                os.kill(os.getpid(), signal.SIGTERM)

sys.exit(Watching(work, 2, 5.0, lambda: None).run(lambda: os.close(come)))
"""


def test_supervisor_ignores_exit_of_unrelated_child() -> None:
    """Process 1 of a container inherits every orphan."""
    result = run(FOREIGN)
    assert (result.returncode, result.stderr) == (0, "")


STUBBORN = """
import os, signal, sys, time
from microblog_rt.server.supervisor import Supervisor

def work(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    class Stop:
        def when_readable(self, descriptor): pass
    ready(Stop())
    time.sleep(60)

def announce():
    os.kill(os.getpid(), signal.SIGTERM)

sys.exit(Supervisor(work, 2, 0.5, lambda: None).run(announce))
"""


def test_workers_that_do_not_stop_are_killed() -> None:
    result = run(STUBBORN)
    assert result.returncode == 1
    assert "killing workers" in result.stderr


STALLED = """
import os, signal, sys, threading, time
from microblog_rt import metrics
from microblog_rt.server.supervisor import Supervisor
from microblog_rt.timeouts import Timeouts

how = sys.argv[1]
once, first = os.pipe()
os.write(first, b".")
os.set_blocking(once, False)
metrics.STALLED.count(0)

class Stop:
    def when_readable(self, descriptor): pass

def work(ready):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    ready(Stop())
    metrics.TURNS.count()
    try:
        os.read(once, 1)
    except BlockingIOError:
        pass
    else:
        if how == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    if metrics.STALLED.at(0):
        print(metrics.STALLED.at(0), metrics.REPLACED.at(0), flush=True)
        os.kill(os.getppid(), signal.SIGTERM)
    while True:
        metrics.TURNS.count()
        time.sleep(0.01)

timeouts = Timeouts(worker_check=0.05, worker_stalled=0.5, worker_restart=0)
sys.exit(Supervisor(work, 2, 30.0, lambda: None, timeouts).run(lambda: None))
"""


@pytest.mark.parametrize("how", ["stopped", "deadlocked"])
def test_worker_whose_loop_stalls_is_replaced(how: str) -> None:
    result = run(STALLED, how)
    assert (result.returncode, result.stdout) == (0, "1.0 1.0\n"), result.stderr
    assert result.stderr.count("its event loop has not run for 0.5 s") == 1


DYING = """
import os, sys, time
from microblog_rt.server.supervisor import Supervisor
from microblog_rt.timeouts import Timeouts

started, starts = os.pipe()

class Stop:
    def when_readable(self, descriptor): pass

def work(ready):
    os.write(starts, b"%f " % time.monotonic())
    ready(Stop())
    time.sleep(0.05)
    os._exit(3)

status = Supervisor(work, 1, 5.0, lambda: None, Timeouts(worker_restart=0.05)).run(lambda: None)
print(os.read(started, 4096).decode())
sys.exit(status)
"""


def test_worker_that_dies_repeatedly_is_backed_off_then_given_up() -> None:
    result = run(DYING)
    assert result.returncode == 1, "systemd restarts on failure"
    assert "every worker ended 6 times" in result.stderr
    starts = [float(each) for each in result.stdout.split()]
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert len(pauses) == 5
    for pause, wanted in zip(pauses[1:], (0.1, 0.2, 0.4, 0.8), strict=True):
        assert pause > wanted * 0.9


def test_worker_that_ends_before_all_serve_stops_the_supervisor() -> None:
    """What has served for a moment does not count as ready."""
    script = DYING.replace("work, 1, 5.0", "work, 2, 0.2").replace(
        "os.write(starts", "os.read(begin, 1); os.write(starts"
    )
    result = run(script.replace("class Stop", "begin, go = os.pipe()\nos.write(go, b'.')\n\nclass Stop"))
    assert result.returncode == 1
    assert "did not start" in result.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_is_notified_and_hangup_drains(tmp_path: Path, workers: str) -> None:
    path = tmp_path / "notify"
    environ = {"MICROBLOG_BUS_URL": "sqlite://", "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "30000000"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(DEADLINE)
        with Server(tmp_path, "--workers", workers, environ=environ) as server:
            states = {systemd.recv(99)}
            while not states >= {b"READY=1", b"WATCHDOG=1"}:
                states.add(systemd.recv(99))
            assert server.stop(signal.SIGHUP) == 0
            while b"STOPPING=1" not in states:
                states.add(systemd.recv(99))
            assert states == {b"READY=1", b"WATCHDOG=1", b"STOPPING=1"}
            assert server.warnings_logged() == []


UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]


@pytest.mark.parametrize("command", [["user", "add", "susan"], ["db", "current"]])
def test_every_command_can_be_ended_as_process_1(tmp_path: Path, command: list[str]) -> None:
    """The first waits for its input; the second may still import modules."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        pytest.skip("no permission to create a PID namespace")
    with subprocess.Popen([*UNSHARE, *COMMAND, *command], cwd=tmp_path, stdin=subprocess.PIPE) as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        until(lambda: children.read_text() != "")
        first = int(children.read_text())
        until(lambda: handles(first, signal.SIGTERM))
        os.kill(first, signal.SIGTERM)
        until(lambda: not alive(first))
        assert outer.wait(DEADLINE) == 128 + signal.SIGTERM


def handles(pid: int, number: int) -> bool:
    (caught,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_connections_are_spread_evenly_over_workers(server: Server) -> None:
    """Also those that arrive together: asyncio would accept all of them in the worker that runs first."""
    workers = server.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    with ExitStack() as stack:
        address = "127.0.0.1", server.port
        tabs = [stack.enter_context(socket.create_connection(address, DEADLINE)) for _ in range(200)]
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        for tab in tabs:
            tab.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert all(tab.recv(4096).startswith(b"HTTP/1.1 200") for tab in tabs)
        counts = [holds_tabs(pid, server.port) for pid in workers]
    mean = 200 / WORKERS
    assert all(mean / 2 <= count <= 2 * mean for count in counts), counts


def test_notification_without_a_descriptor_left_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setenv("NOTIFY_SOCKET", "/nothing")
    monkeypatch.setattr(socket, "socket", refuse)
    systemd.notify(systemd.READY)

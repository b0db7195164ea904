"""How a server is asked to shut down."""

import asyncio
import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
FORCE_SIGNAL = signal.SIGUSR1  # from the supervisor to its workers


class Shutdown:
    """Requested once: drain, then end. Requested twice: end now."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()

    def request(self) -> None:
        """Request a shutdown, or force the one that was requested."""
        (self.forced if self.requested.is_set() else self.requested).set()

    def force(self) -> None:
        """End now."""
        self.requested.set()
        self.forced.set()

    def handle_signals(self, *, supervised: bool) -> None:
        """Install signal handlers. Under a supervisor only ``FORCE_SIGNAL`` forces.

        A terminal or systemd may signal every process of a group, so the SIGTERM that the supervisor forwards may be
        the second one that a worker gets.
        """
        loop = asyncio.get_running_loop()
        if supervised:
            loop.add_signal_handler(signal.SIGTERM, self.requested.set)
            loop.add_signal_handler(FORCE_SIGNAL, self.force)
        else:
            for number in stop_signals():
                loop.add_signal_handler(number, self.request)

    def when_readable(self, descriptor: int) -> None:
        """Request a shutdown when ``descriptor`` is readable or its other end is closed."""
        loop = asyncio.get_running_loop()

        def closed() -> None:
            loop.remove_reader(descriptor)
            self.requested.set()

        loop.add_reader(descriptor, closed)


def stop_signals() -> list[signal.Signals]:
    """The signals that request a shutdown; not SIGHUP when it is ignored, as under ``nohup``."""
    return [each for each in STOP_SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]

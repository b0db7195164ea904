"""How a server is told to stop."""

import asyncio
import signal


class Stop:
    """Asked for once: come to an end. Twice: now."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def ask(self) -> None:
        """Once more."""
        (self.at_once if self.asked.is_set() else self.asked).set()

    def hurry(self) -> None:
        """Now."""
        self.asked.set()
        self.at_once.set()

    def obey(self, *, supervised: bool) -> None:
        """Hear the signals. Under a supervisor only its own ``HURRY`` means now.

        For a terminal, or systemd, may signal every process: what the supervisor passes on is no second word then.
        """
        loop = asyncio.get_running_loop()
        if supervised:
            loop.add_signal_handler(signal.SIGTERM, self.asked.set)
            loop.add_signal_handler(HURRY, self.hurry)
        else:
            loop.add_signal_handler(signal.SIGTERM, self.ask)
            loop.add_signal_handler(signal.SIGINT, self.ask)

    def when_readable(self, descriptor: int) -> None:
        """Ask as soon as there is something to read, or the other end has gone."""
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(descriptor)
            self.asked.set()

        loop.add_reader(descriptor, gone)


HURRY = signal.SIGUSR1

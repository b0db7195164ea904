"""How a server is told to stop."""

import asyncio


class Stop:
    """Asked for once: come to an end. Twice: now."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def ask(self) -> None:
        """Once more."""
        (self.at_once if self.asked.is_set() else self.asked).set()

    def when_readable(self, descriptor: int) -> None:
        """Ask as soon as there is something to read, or the other end has gone."""
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(descriptor)
            self.ask()

        loop.add_reader(descriptor, gone)

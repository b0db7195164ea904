"""A broker that is away: said once, waited for, longer each time, and said once that it is back.

Not here: how a backend finds out.
"""

import asyncio
import logging
import random

log = logging.getLogger(__name__)

SHORTEST = 0.1  # seconds
LONGEST = 2.0


class Outage:
    """The trouble of one connection, when there is any; ``means`` says what it keeps from happening."""

    def __init__(self, broker: str, means: str) -> None:
        self._broker = broker
        self._means = means
        self._pause = 0.0

    @property
    def lasts(self) -> bool:
        """Whether it is known to be away."""
        return self._pause > 0

    async def wait_out(self, error: OSError) -> None:
        """Return when it is time for another attempt."""
        if not self._pause:
            log.warning("%s is away, so that %s: %s", self._broker, self._means, str(error) or "no answer")
        self._pause = min(2 * self._pause or SHORTEST, LONGEST)
        # Scattered, so that many processes do not return in step.
        await asyncio.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311

    def over(self) -> None:
        """It is there."""
        if self._pause:
            log.info("%s is back (it was away, so that %s)", self._broker, self._means)
        self._pause = 0.0

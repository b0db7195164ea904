"""An unavailable broker: logged once when it begins and once when it ends; attempts to reconnect back off."""

import asyncio
import logging
import random
import time

from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)


class Outage:
    """The state of one connection to ``broker``; ``purpose`` completes the log line "unavailable for ..."."""

    def __init__(self, broker: str, purpose: str, timeouts: Timeouts = Timeouts()) -> None:
        self._broker = broker
        self._purpose = purpose
        self._timeouts = timeouts
        self._began = 0.0
        self._pause = 0.0

    @property
    def ongoing(self) -> bool:
        """Whether the last attempt failed."""
        return self._pause > 0

    async def wait_before_retry(self, error: OSError) -> None:
        """Record a failed attempt and sleep before the next, longer each time."""
        if not self.ongoing:
            self._began = time.monotonic()
            log.warning("%s unavailable for %s: %s", self._broker, self._purpose, str(error) or "no answer")
        self._pause = min(2 * self._pause or self._timeouts.broker_retry_min, self._timeouts.broker_retry_max)
        # A random pause, so that many processes do not reconnect in step.
        await asyncio.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311

    def end(self) -> None:
        """Record a successful attempt."""
        if self.ongoing:
            seconds = time.monotonic() - self._began
            log.info("%s available again for %s after %.1f s", self._broker, self._purpose, seconds)
        self._pause = 0.0

"""The command ``microblog-rt``, also as ``python -m microblog_rt``."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # exit status after Ctrl-C


def main() -> None:
    """Run the command line."""
    if os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _terminate)
    try:
        from microblog_rt.import_commands import main as command  # importing takes a second, a signal may arrive
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    command(prog_name="microblog-rt")


def _terminate(number: int, _: FrameType | None) -> None:
    # For process 1 of a container the kernel ignores a signal that has no handler.
    os._exit(128 + number)


if __name__ == "__main__":
    main()

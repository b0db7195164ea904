"""Log formats: text, or one JSON object per line."""

import json
import logging
from datetime import UTC, datetime


def begin(form: str, *, several: bool) -> None:
    """Log to standard error as ``text`` or ``json``; ``several``: with process ids, as several processes log there."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    process = " [%(process)d]" if several else ""
    handler = logging.StreamHandler()
    text = logging.Formatter(f"%(asctime)s{process} %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class JsonLines(logging.Formatter):
    """One object per line: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, ``process``, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str | int | None] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)

"""The agent's logging: to standard error as text or JSON, and its latest lines in memory for `shoal logs NODE`."""

from __future__ import annotations

import json
import logging

from .clock import rfc3339
from .log_reader import OwnLog


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message, and the traceback if there is one."""
        line = {
            "time": rfc3339(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(level: str, form: str) -> OwnLog:
    """Log what is ours at this level, and of everybody else what is wrong; the level may be changed later."""
    own, stream = OwnLog(), logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    stream.setFormatter(JsonFormatter() if form == "json" else text)
    root = logging.getLogger()
    root.handlers[:] = [stream, own]
    root.setLevel(logging.WARNING)
    logging.getLogger("shoal").setLevel(level.upper())
    return own

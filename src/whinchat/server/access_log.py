"""The access log: one line for each request, without its texts, its query and its key."""

import json
import logging
import time
from typing import Any, Literal

from starlette.types import Scope

LogFormat = Literal["text", "json"]

_logger = logging.getLogger("whinchat.access")
_LONGEST_PATH = 200


class JsonFormatter(logging.Formatter):
    """Format a log record as one line of JSON; the fields of a request stand beside time, level and logger."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {"time": _utc(record), "level": record.levelname.lower(), "logger": record.name}
        entry |= getattr(record, "request", None) or {"message": record.getMessage()}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class _TextFormatter(logging.Formatter):
    """Format a record of the access log as a line that begins with the time."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{_utc(record)} {record.getMessage()}"


def _utc(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def write_access_log(log_format: LogFormat) -> None:
    """Write the access log to standard error from now on; with "json", the lines of all other loggers are JSON, too."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else _TextFormatter())
    _logger.handlers[:] = [handler]
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    if log_format == "json":
        for name in (None, "whinchat.progress"):
            for other in logging.getLogger(name).handlers:
                other.setFormatter(JsonFormatter())


def log_request(scope: Scope, status: int | None, seconds: float) -> None:
    """Log a request: method, path, status (None where the client went away), milliseconds, and number of texts."""
    # As it was sent: percent signs keep line breaks and other control characters out of the log.
    path = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "backslashreplace")[:_LONGEST_PATH]
    request = {
        "method": scope["method"],
        "path": path,
        "status": status,
        "ms": round(1000 * seconds, 1),
        "texts": scope["state"].get("texts", 0),
    }
    shown = "{method} {path} {status} {ms} ms, {texts} texts".format_map(request | {"status": status or "-"})
    _logger.info("%s", shown, extra={"request": request})

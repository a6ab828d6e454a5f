"""Log lines: for people as they are documented, for machines as one JSON object a line.

``report`` is for what a command prints beside its log, the summary and the error that ends it: whatever the log
level, and in the same form.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone

TEXT = "%(asctime)s - %(levelname)s - %(message)s"
# Modules of kafka-python whose debug lines print settings and requests, and so a password.
WITH_SECRETS = ("kafka.net", "kafka.protocol", "kafka.admin")
report = logging.getLogger("sor.report")


class JsonLines(logging.Formatter):
    """time (ISO 8601, UTC), level, logger, message and, where there is one, exception."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)  # in ASCII: any stream can write it, and no character ends a line


def configure(level: str, form: str) -> None:
    """Log to standard error from ``level`` up, as ``text`` or ``json``."""
    as_json = form == "json"
    lines = _to_standard_error()
    lines.setFormatter(JsonLines() if as_json else logging.Formatter(TEXT, "%Y-%m-%d %H:%M:%S"))
    if level != "debug":
        # Dask tells where in itself a scheduler was lost; it sets levels of its own when it is imported.
        lines.addFilter(lambda record: record.name.partition(".")[0] != "distributed")
    logging.basicConfig(level=level.upper(), handlers=[lines], force=True)
    # The client's own lines repeat every attempt to connect; ours say what matters, once.
    logging.getLogger("kafka").setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)
    for name in WITH_SECRETS:
        logging.getLogger(name).setLevel(logging.INFO if level == "debug" else logging.CRITICAL)
    configure_report(form)


def _to_standard_error() -> logging.Handler:
    return logging.NullHandler() if sys.stderr is None else logging.StreamHandler(sys.stderr)


def configure_report(form: str) -> None:
    plain = _to_standard_error()
    plain.setFormatter(JsonLines() if form == "json" else logging.Formatter("%(message)s"))
    report.handlers = [plain]
    report.setLevel(logging.INFO)
    report.propagate = False

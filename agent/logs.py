"""Structured logs on stderr: JSON a line, or text for people. Payload values and patient tokens are never logged."""

import json
import logging
import re
import sys
from datetime import UTC, datetime

_PAIR = re.compile(r"(\w+)=(.*?)(?=,? \w+=|$)")


class JsonFormatter(logging.Formatter):
    """`message` as written, and its `key=value` pairs as fields of their own."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        line: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        line |= {key: value for key, value in _PAIR.findall(message) if key not in line}
        if record.exc_info and record.exc_info[0]:
            # The type and the place, not the text: an exception's words may quote what it choked on.
            line["exception"] = record.exc_info[0].__name__
            frames = []
            trace = record.exc_info[2]
            while trace is not None:
                frames.append(f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}")
                trace = trace.tb_next
            line["trace"] = " > ".join(frames)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(JsonFormatter):
    """The same content for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        line = json.loads(super().format(record))
        trace = f" [{line['exception']} at {line['trace']}]" if "exception" in line else ""
        return f"{line['time']} {line['level']:<7} {line['message']}{trace}"


_RADIO = ("bleak", "bleak_retry_connector", "dbus_fast", "bluetooth_adapters")


def set_up(level: str, style: str) -> None:
    """Log to stderr; other libraries speak up from warning on: in between they tell every octet a patch sends."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("httpx", "httpcore", "aiosqlite", "apscheduler", "asyncio", *_RADIO):
        logging.getLogger(name).setLevel(logging.WARNING)

"""Log lines: JSON, one for each request and one for every other event, in the same shape; on a terminal, colored.

No line holds a part of what a client has sent but its request id and the ids of its trace, which have a fixed form.
"""

import io
import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from service.observability.sink import Sink, stderr, stdout

if TYPE_CHECKING:
    from structlog.typing import Processor

_stamp: Final = structlog.processors.TimeStamper(fmt="iso", key="time")

EventDict = MutableMapping[str, Any]


class RequestLog:
    """Writes a line for each request."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Lines go to this descriptor, or stdout, each by one write, so that those of several workers do not mix."""
        self._sink = stdout() if descriptor is None else Sink(descriptor)
        self._render = _colored if self._sink.is_terminal else _line

    def write(self, status: int, facts: EventDict) -> None:
        """Write what is known about one request. Raises OSError when the line is dropped; never waits."""
        self._sink.write(self._render("info" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "error", status, facts))


class LineHandler(logging.Handler):
    """Writes records of the standard library as lines, and drops what their reader leaves no room for."""

    def __init__(self) -> None:
        """Lines go to stdout; to stderr if there is none."""
        super().__init__()
        self._sink = stderr() if sys.stdout is None else stdout()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        except Exception:  # noqa: BLE001 -- as the handlers of the standard library do
            self.handleError(record)
            return
        with suppress(OSError):  # it is dropped and counted
            self._sink.write(line)


class UnwaitingText(io.TextIOBase):
    """A text stream that drops what its reader leaves no room for, in place of sys.stderr."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def write(self, text: str) -> int:
        """Write a text."""
        with suppress(OSError):
            self._sink.write(text.encode(errors="backslashreplace"))
        return len(text)

    def writable(self) -> bool:
        """True: texts are written to it."""
        return True


def _line(level: str, status: int, facts: EventDict) -> bytes:
    """The line that structlog's processors and renderer below would make; through them it takes 5 µs longer."""
    event = {"time": datetime.now(UTC), "level": level, "event": "request", "status": status, **facts}
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _colored(level: str, status: int, facts: EventDict) -> bytes:
    event = _stamp(None, level, {"level": level, "event": "request", "status": status, **facts})
    return f"{_console()(None, level, event)}\n".encode()


def configuration() -> Mapping[str, object]:
    """For `logging.config.dictConfig`: the lines of gunicorn and the service take the shape of the request's line."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {"level": "WARNING", "handlers": ["lines"]},
        "loggers": {
            "gunicorn.error": {
                "level": "INFO",
                "handlers": ["lines"],
                "propagate": False,
            },
            "gunicorn.access": {
                "level": "INFO",
                "handlers": ["lines"],
                "propagate": False,
            },
            "service": {"level": "INFO", "handlers": ["lines"], "propagate": False},
            "pricing": {"level": "INFO", "handlers": ["lines"], "propagate": False},
        },
        "handlers": {"lines": {"()": LineHandler, "formatter": "lines"}},
        "formatters": {"lines": {"()": formatter}},
    }


def formatter() -> logging.Formatter:
    """Formats a record of the standard library as a line."""
    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(allow=["request_id"]),
        _stamp,
        _process,
    ]
    if sys.stdout is not None and sys.stdout.isatty():
        rendering: list[Processor] = [_ordered, _console()]
    else:
        rendering = [
            structlog.processors.format_exc_info,
            _ordered,
            structlog.processors.JSONRenderer(serializer=_text),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering]
    )


def _process(_logger: object, _method: str, event: EventDict) -> EventDict:
    event["process"] = event["_record"].process
    return event


def _ordered(_logger: object, _method: str, event: EventDict) -> EventDict:
    """When, how bad and what come first."""
    return {"time": event.pop("time"), "level": event.pop("level"), "event": event.pop("event"), **event}


def _console() -> structlog.dev.ConsoleRenderer:
    # Not the default for tracebacks: where rich is installed, it shows the local variables, and with them the request.
    return structlog.dev.ConsoleRenderer(
        colors=True, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )


def _text(event: EventDict, **_options: object) -> str:
    return orjson.dumps({name: _utf8(value) for name, value in event.items()}, default=str).decode()


def _utf8(value: object) -> object:
    """A text may hold surrogates, as the name of a file does that is not UTF-8."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value

"""One JSON line for each thing that happens, from structlog and the standard library (SPEC R6.2).

`configure_logging` is called once at start. After that `structlog.get_logger().info("ticket_opened", ticket_id=…)` and
the loggers of uvicorn, asyncpg, piccolo and litestar all end in the same sink, in the same form.
"""

import logging
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from busbar.observability.correlation import correlation_id_var
from busbar.observability.redaction import REDACTED, is_secret_name, redacted, redacted_text
from busbar.observability.sink import LineSink

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
TEXT_CHARACTERS_MAX: Final = 8_000
"""Longer texts are cut; one line stays readable by every log shipper (they cut at 16 KiB and above)."""
NO_CORRELATION: Final = "-"
"""The correlation id of work that no request, event or job has begun."""

_REQUIRED: Final = frozenset({"timestamp", "service", "log_level", "correlation_id", "event", "message"})
_ROUTED: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncpg", "piccolo", "litestar", "asyncio")

_encoder = msgspec.json.Encoder(enc_hook=lambda value: redacted_text(repr(value)[:TEXT_CHARACTERS_MAX]))


class _Output:
    """Where lines go and what they are called; replaced by `configure_logging`."""

    service: str = "busbar"
    sink: LineSink = LineSink()
    level: int = logging.INFO


def configure_logging(
    *, service: str = "busbar", level: str = "INFO", write: Callable[[bytes], object] | None = None
) -> LineSink:
    """Send every log line of this process as JSON to standard output, or to `write`; returns the sink, to flush it.

    `level` is one of LEVELS; lines below it are dropped before they are formatted.

    Raises:
        ValueError: for any other level.
    """
    if level not in LEVELS:
        raise ValueError(f"The log level is one of {', '.join(LEVELS)}; {level!r} is not.")
    number = logging.getLevelNamesMapping()[level]
    previous = _Output.sink
    _Output.service, _Output.level, _Output.sink = service, number, LineSink(write)
    previous.close()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _explain_exception, _render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_SinkLogger,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _JsonHandler)]
    root.addHandler(_JsonHandler())
    root.setLevel(number)
    for name in _ROUTED:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # The outer wrapper writes one line per request, with the correlation id; uvicorn's own would be a second one.
    logging.getLogger("uvicorn.access").disabled = True
    # `broker_lost` says it once; the client library would say it several times more, with tracebacks.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    return _Output.sink


def log_line(level: str, event: str, fields: dict[str, Any], *, correlation_id: str | None = None) -> bytes:
    """One JSON object and a line feed, whatever the fields hold.

    A field named like a required one is kept under that name with `_` behind it.
    """
    line: dict[str, Any] = {
        "timestamp": datetime.now(UTC).isoformat(timespec="microseconds"),
        "service": _Output.service,
        "log_level": level,
        "correlation_id": correlation_id or NO_CORRELATION,
        "event": _shown(event),
    }
    for name, value in fields.items():
        shown = REDACTED if is_secret_name(name) else _shown(value)
        line[f"{name}_" if name in _REQUIRED else name] = shown
    try:
        encoded = _encoder.encode(line)
    except (ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError):
        encoded = _encoder.encode(_plain(line))
    if not encoded.isascii():
        # These three also end a line for readers that follow Unicode.
        for raw, escape in _LINE_ENDS:
            encoded = encoded.replace(raw, escape)
    return encoded + b"\n"


def write_line(level: str, event: str, fields: dict[str, Any], *, correlation_id: str | None = None) -> None:
    """Queue one line without the detour of a logger; for the one line of each request."""
    if logging.getLevelNamesMapping()[level] >= _Output.level:
        _Output.sink.put(log_line(level, event, fields, correlation_id=correlation_id))


def dropped_lines() -> int:
    """Log lines that were lost because their reader was too slow."""
    return _Output.sink.dropped_count


def flush_logs() -> bool:
    """Wait until every line of this process is written; False if its reader is too slow for that."""
    return _Output.sink.flush()


_LINE_ENDS: Final = (
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
    ("\u0085".encode(), b"\\u0085"),
)


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return redacted_text(value if len(value) <= TEXT_CHARACTERS_MAX else value[:TEXT_CHARACTERS_MAX] + "…")
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        return redacted(value)
    if isinstance(value, msgspec.Struct):
        # A struct may hold a secret by name as well; the fallback below prints what cannot be taken apart.
        return redacted({name: getattr(value, name) for name in value.__struct_fields__})
    return value


def _plain(value: Any, depth: int = 8) -> Any:
    """The same with everything that JSON cannot hold written out as text."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else hex(value)[:TEXT_CHARACTERS_MAX]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if depth > 0 and isinstance(value, dict):
        return {_plain(str(key)): _plain(item, depth - 1) for key, item in value.items()}
    if depth > 0 and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth - 1) for item in value]
    return redacted_text(repr(value)[:TEXT_CHARACTERS_MAX]).encode("utf-8", "backslashreplace").decode()


_LEVEL_OF_METHOD: Final = {
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "WARNING",
    "warn": "WARNING",
    "error": "ERROR",
    "exception": "ERROR",
    "critical": "ERROR",
    "fatal": "ERROR",
}


def _explain_exception(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    error = event_dict.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, BaseException):
        error = (type(error), error, error.__traceback__)
    if isinstance(error, tuple) and error[0] is not None:
        event_dict["exception"] = "".join(traceback.format_exception(*error))
    return event_dict


def _render(_logger: WrappedLogger, method: str, event_dict: EventDict) -> bytes:
    bound = event_dict.pop("correlation_id", None)
    event = event_dict.pop("event", "")
    return log_line(
        _LEVEL_OF_METHOD.get(method, "INFO"),
        event if isinstance(event, str) else str(event),
        dict(event_dict),
        correlation_id=str(bound) if bound else correlation_id_var.get(),
    )


class _SinkLogger:
    """The innermost logger: hands a finished line to the sink."""

    def __init__(self, *_args: Any) -> None:
        """structlog passes the arguments of `get_logger`; the name of a logger is not part of a line."""

    def msg(self, line: bytes) -> None:
        _Output.sink.put(line)

    debug = info = warning = warn = error = exception = critical = fatal = log = msg


class _JsonHandler(logging.Handler):
    """Turns records of the standard library into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "ERROR" if record.levelno >= logging.ERROR else logging.getLevelName(record.levelno)
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = "".join(traceback.format_exception(*record.exc_info))
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            # A library that passes the wrong arguments loses their values, not the line.
            message = str(record.msg)
        line = log_line(level if level in LEVELS else "INFO", message, fields, correlation_id=correlation_id_var.get())
        _Output.sink.put(line)

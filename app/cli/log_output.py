"""The configuration of logging: where log lines go, and in which format; and whether output has colours."""

import io
import logging
import os
import sys
from typing import IO, Any

import msgspec
import structlog

from app.core.text import readable


def wants_colour() -> bool:
    """Whether a terminal may get colours: not where NO_COLOR is set, see https://no-color.org."""
    return not os.environ.get("NO_COLOR")


def configure(level: str) -> None:
    """Send all log lines but those of calls to standard output: JSON, or text on a terminal."""
    _make_tolerant(sys.stdout)
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    to_people = structlog.dev.ConsoleRenderer(colors=wants_colour())
    to_programs = structlog.processors.JSONRenderer(serializer=_encode)
    renderer: Any = to_people if sys.stdout.isatty() else to_programs
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # It logs its plugins at every start.
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _make_tolerant(stream: IO[str]) -> None:
    """Make a stream accept any text, whatever the locale: JSON in UTF-8, and on a terminal with replacements."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _encode(event: Any, **_: Any) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=repr).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(readable(event), enc_hook=repr).decode()

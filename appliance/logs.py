"""One line per event; JSON when not a terminal; never a message's text or a token."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def configure_logs(style: Literal["auto", "json", "plain"], least: Literal["info", "warning"] = "info") -> None:
    """Send structlog's events and the libraries' warnings to standard error.

    Parameters
    ----------
    style : {'auto', 'json', 'plain'}
        ``auto`` writes for people on a terminal and JSON elsewhere.
    least : {'info', 'warning'}
        Least level written.
    """
    plain = style == "plain" or (style == "auto" and sys.stderr.isatty())
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if plain
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    steps: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*steps, *([] if plain else [structlog.processors.dict_tracebacks]), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[least.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")

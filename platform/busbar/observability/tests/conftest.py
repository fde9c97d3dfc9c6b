"""Fixtures: the log of this process, caught line by line."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import structlog

from busbar.observability.logs import configure_logging

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Puts back the loggers of the standard library and structlog after a test that configures them."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    configure_logging().close()
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def log_lines() -> Lines:
    """Returns the lines logged so far, decoded; each must be one JSON object."""
    written: list[bytes] = []
    sink = configure_logging(service="busbar-test", level="DEBUG", write=written.append)

    def lines() -> list[dict[str, Any]]:
        assert sink.flush()
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in b"".join(written).splitlines()]

    return lines

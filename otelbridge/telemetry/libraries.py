"""What libraries say by way of `logging` goes in, happenings come out: the only place that touches `logging`.

The exporters of an endpoint that is away complain with every try; as happenings they are limited like everything else.
"""

from __future__ import annotations

import logging

from otelbridge.telemetry.happenings import LibrarySpoke, Tell

LIBRARIES = ("opentelemetry", "grpc", "urllib3", "requests", "waitress", "asyncio")
"""Loggers that speak up in this process."""
SMALL_TALK = frozenset({"waitress.queue"})
"""Says at each request that finds no thread idle how many wait; with four threads that is every page that is opened."""


EXPORTERS = "opentelemetry.exporter"
"""What they call an error is that the bridge's own spans or metrics did not arrive, mostly where the events' endpoint
is away, which is told as a warning by itself: no reason to wake anybody."""


class _Listener(logging.Handler):
    def __init__(self, tell: Tell) -> None:
        super().__init__(level=logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if record.name in SMALL_TALK:
            return
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit the template
            message = str(record.msg)
        if record.exc_info and record.exc_info[1] is not None:
            message += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        grave = record.levelno >= logging.ERROR and not record.name.startswith(EXPORTERS)
        self._tell(
            LibrarySpoke(
                library=record.name,
                level="error" if grave else "warning",
                template=str(record.msg),
                message=message,
            )
        )


class Libraries:
    """Listens from construction until `close`; loggers are the process's, so what was there before is put back."""

    def __init__(self, tell: Tell) -> None:
        self._listener = _Listener(tell)
        self._before = {name: logging.getLogger(name).propagate for name in LIBRARIES}
        for name in LIBRARIES:
            logger = logging.getLogger(name)
            logger.addHandler(self._listener)
            logger.propagate = False

    def close(self) -> None:
        """Stops listening."""
        for name, propagate in self._before.items():
            logger = logging.getLogger(name)
            logger.removeHandler(self._listener)
            logger.propagate = propagate

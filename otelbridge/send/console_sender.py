"""The console: each request becomes one line of OTLP JSON on stdout, as file and debug pipelines read it."""

from __future__ import annotations

import threading
from typing import TextIO

from otelbridge.queue.outcome import Accepted, Hold, Outcome
from otelbridge.send.otlp_json import to_line


class ConsoleSender:
    """Writes to a text stream that somebody else opened and will close."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """The word for it in settings, logs and status."""
        return "console"

    @property
    def certificate_expires_unix_seconds(self) -> int | None:
        """Never: there is none."""
        return None

    def send(self, request: bytes, *, records: int) -> Outcome:  # noqa: ARG002  # part of the contract
        """Accepted once the line is flushed."""
        line = to_line(request) + "\n"
        try:
            with self._lock:
                self._stream.write(line)
                self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            return Hold(code="stdout", why=str(error), cure="restart the bridge with its stdout open")
        return Accepted()

    def renewed(self) -> bool:
        """Never: there are no files."""
        return False

    def close(self) -> None:
        """Nothing: the stream is not ours."""

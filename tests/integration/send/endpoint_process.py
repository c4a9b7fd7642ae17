"""An endpoint in a process of its own, so that what it costs is not counted as the bridge's."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from otelbridge.simulator.endpoint import OtlpEndpoint, logs_in
from otelbridge.simulator.endpoint_answers import Answers

STOP_SECONDS = 30


class EndpointProcess:
    """Listens until it is left; use it as a context manager.

    Args:
        answers: makes the rule in the other process, so it must be importable: a function, or a `partial` of one.
        workers: requests over gRPC that are answered at once.
    """

    def __init__(self, answers: Callable[[], Answers], *, workers: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, answers, workers))
        self._process.start()
        theirs.close()
        self.grpc_endpoint, self.http_endpoint = self._pipe.recv()

    def bodies(self) -> list[str]:
        """Of all records taken, in the order of arrival."""
        return list(self._asked("bodies"))

    def cpu_seconds(self) -> float:
        """What its process has used."""
        return float(self._asked("cpu"))

    def _asked(self, question: str) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.close()
        self._process.join(STOP_SECONDS)


def _serve(pipe: Connection, answers: Callable[[], Answers], workers: int) -> None:
    with OtlpEndpoint(answers=answers(), workers=workers) as endpoint:
        pipe.send((endpoint.grpc_endpoint, endpoint.http_endpoint))
        questions: dict[str, Callable[[], Any]] = {
            "bodies": partial(_bodies, endpoint),
            "cpu": time.process_time,
        }
        while True:
            try:
                question = pipe.recv()
            except EOFError:
                return
            pipe.send(questions[question]())


def _bodies(endpoint: OtlpEndpoint) -> list[str]:
    taken = endpoint.inbox.requests("logs")
    return [log.record.body.string_value for request in taken for log in logs_in(request.body)]

"""What is known when an attempt failed or a connection was lost: the value that ladder, gaps and status go by."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from otelbridge.event import GapCause
from otelbridge.feed.reader import StreamEnd
from otelbridge.feed.status_codes import ErrorClass, classify, configuration_fault, gap_cause


@dataclass(kw_only=True, eq=False)
class ConnectionLostError(Exception):
    """An attempt failed, or a connection that was watched is over. Not frozen: Python sets a traceback on it."""

    code: grpc.StatusCode
    details: str
    error_class: ErrorClass
    step: str = ""
    """The step of the attempt that failed; empty when the upstream had been watched."""
    cause: GapCause = GapCause.DISCONNECT
    healthy: bool = False
    quick: bool = False
    proven_until_end: bool = False
    """Nothing that was sent before the end can have been missed: the server itself ended it."""
    ends: tuple[StreamEnd, ...] = ()

    def __str__(self) -> str:
        where = f"{self.step}: " if self.step else ""
        return f"{where}{self.code.name}: {self.details or 'no details'}"


def failed_step(step: str, code: grpc.StatusCode, details: str) -> ConnectionLostError:
    """An attempt that got no further than this step."""
    verdict = classify(code, details)
    cure = configuration_fault(details) if verdict.error_class is ErrorClass.CONFIGURATION else ""
    return ConnectionLostError(
        code=code,
        details=f"{cure} ({details})" if cure else details,
        error_class=verdict.error_class,
        step=step,
        cause=gap_cause(code, details),
    )


def misconfigured(step: str, why: str) -> ConnectionLostError:
    """An attempt that an operator has to help, by what we found out ourselves."""
    return ConnectionLostError(
        code=grpc.StatusCode.FAILED_PRECONDITION, details=why, error_class=ErrorClass.CONFIGURATION, step=step
    )

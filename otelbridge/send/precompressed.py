"""A gRPC method for messages that are compressed already: grpc's own callable goes in, one that says so comes out.

grpc compresses inside its C core, at zlib's level 6, and its public interface takes no message that is compressed.
The core itself knows one: bytes that a write flag marks are framed as compressed, and left alone. Python's layer makes
the operations of a call in a private method, whose second one sends the message; there the flag can be set.

Beside this only feed/messages.py touches grpc's inside. Where that is not what it was when this was tested,
`precompressed` says so, and the sender has grpc compress: right as well, only dearer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from grpc._cython import cygrpc

TESTED: tuple[str, ...] = ("1.85.",)
"""Releases of grpcio, as far as the minor version. Another one may read the flag otherwise, and the endpoint would be
the first to see it, as messages that it cannot read."""
WRITE_INTERNAL_COMPRESS = -0x80000000  # GRPC_WRITE_INTERNAL_COMPRESS (transport.h), as the signed integer taken here
SEND_MESSAGE = 1  # its place among the operations of a unary call

Export = Callable[..., bytes]


def precompressed(export: grpc.UnaryUnaryMultiCallable, *, version: str = grpc.__version__) -> Export | None:
    """The method, for messages that are gzip members; to be called with `compression=grpc.Compression.Gzip`.

    Args:
        export: a method of a channel, without serializers. Not to be used otherwise afterwards.
        version: grpcio's.

    Returns:
        None where this grpcio does not let us.
    """
    if not version.startswith(TESTED):
        return None
    try:
        prepare: Callable[..., Any] = export._prepare  # noqa: SLF001  # what this file is about
        marked = _marking(prepare)
        marked(b"", None, None, None, grpc.Compression.Gzip)  # starts nothing
        export._prepare = marked  # noqa: SLF001
    except (AttributeError, TypeError, ValueError):
        return None
    return export  # type: ignore[no-any-return]  # grpcio has no types


def _marking(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """Makes the operations of a call as before, with the message marked as compressed."""

    def prepared(request: bytes, *rest: Any) -> Any:
        state, operations, deadline, failure = prepare(request, *rest)
        if operations is None:
            return state, operations, deadline, failure
        if not isinstance(operations[SEND_MESSAGE], cygrpc.SendMessageOperation):
            raise TypeError(f"the operations of a call are not what they were: {operations}")
        message = cygrpc.SendMessageOperation(request, WRITE_INTERNAL_COMPRESS)
        return state, (*operations[:SEND_MESSAGE], message, *operations[SEND_MESSAGE + 1 :]), deadline, failure

    return prepared

"""GOAWAY with any error code ends a connection, and not the process: grpcio 1.84 and 1.85 abort at 13 and 14."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import hyperframe.frame
import pytest

CODES = [*range(17), 255, 2**31, 2**32 - 1]
CLIENT = """
import sys
import grpc

channel = grpc.insecure_channel(sys.argv[1])
call = channel.unary_unary("/a.b/C", request_serializer=bytes, response_deserializer=bytes)
try:
    call(b"", timeout=10)
except grpc.RpcError as error:
    print(error.code().name)
"""
"""A process of its own, as it is what may end."""


def go_away(listener: socket.socket, code: int) -> None:
    """Answers one connection's first call with a GOAWAY, and waits for its end."""
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    http2.initiate_connection()
    connection, _ = listener.accept()
    with connection, suppress(OSError):
        connection.sendall(http2.data_to_send())
        while received := connection.recv(65536):
            events = http2.receive_data(received)
            connection.sendall(http2.data_to_send())
            if any(isinstance(event, h2.events.RequestReceived) for event in events):
                frame = hyperframe.frame.GoAwayFrame(0, last_stream_id=1, error_code=code)
                connection.sendall(frame.serialize())
                connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("code", CODES)
def test_a_goaway_of_any_code_ends_the_call_and_not_the_process(code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=go_away, args=(listener, code))
        server.start()
        argv = [sys.executable, "-c", CLIENT, f"127.0.0.1:{listener.getsockname()[1]}"]
        client = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        server.join()
    assert (client.returncode, client.stdout) == (0, "UNAVAILABLE\n"), client.stderr

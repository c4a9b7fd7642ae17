from __future__ import annotations

import socket
import time

import pytest

from otelbridge.send import http_sender


def test_an_address_that_is_silent_leaves_the_others_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def silent(_address: tuple[str, int], timeout: float) -> socket.socket:
        given.append(timeout)
        raise TimeoutError("nobody answers")

    monkeypatch.setattr(http_sender, "_resolved", lambda *_: ["192.0.2.1", "192.0.2.2", "192.0.2.3"])
    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(TimeoutError, match="nobody answers"):
        http_sender._dialled("collector", 4318, time.monotonic() + 30)
    assert given == pytest.approx([10, 15, 30], abs=1)

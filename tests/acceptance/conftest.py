"""What every acceptance test has: a simulated KubeArmor and an OTLP endpoint on real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as started:
        yield started


@pytest.fixture
def endpoint() -> Iterator[OtlpEndpoint]:
    with OtlpEndpoint() as started:
        yield started

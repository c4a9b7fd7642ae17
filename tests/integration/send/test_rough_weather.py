"""The short form of the endpoint's campaign; the long one is in tests/torture/send."""

from __future__ import annotations

import random

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.integration.send.conftest import Road
from tests.integration.send.rough_weather import campaign


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_through_all_moods_of_an_endpoint_nothing_is_lost(road: Road, endpoint: OtlpEndpoint, protocol: str) -> None:
    campaign(road, endpoint, protocol=protocol, seed=random.randrange(10**6), batches=8)

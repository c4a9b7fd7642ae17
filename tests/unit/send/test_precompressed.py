from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from otelbridge.send.grpc_sender import TESTED, precompressed


@pytest.fixture
def channel() -> Iterator[grpc.Channel]:
    with grpc.insecure_channel("127.0.0.1:1") as made:
        yield made


class WithoutInside:
    """A callable of a grpc that keeps its operations elsewhere."""


class OtherInside:
    """One whose private method is another one by now."""

    def __init__(self, answer: Any) -> None:
        self._prepare = lambda *_: answer


def test_the_grpc_that_is_installed_is_one_that_was_tested(channel: grpc.Channel) -> None:
    assert grpc.__version__.startswith(TESTED), "run the tests of the senders and the Collector, then add it"
    assert precompressed(channel.unary_unary("/service/method")) is not None


def test_another_grpc_compresses_by_itself(channel: grpc.Channel) -> None:
    assert precompressed(channel.unary_unary("/service/method"), version="1.99.0") is None


@pytest.mark.parametrize(
    "changed", [WithoutInside(), OtherInside(None), OtherInside((1, 2)), OtherInside((None, [1, 2], 0, None))]
)
def test_a_grpc_whose_inside_has_changed_compresses_by_itself(changed: object) -> None:
    assert precompressed(changed, version=TESTED[0] + "9") is None

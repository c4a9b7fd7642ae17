from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.queue import packing
from otelbridge.queue.packing import (
    HEADER,
    LARGE_BYTES,
    LEAST_BYTES,
    MARK,
    MAX_REQUEST_BYTES,
    PLAIN_BYTES,
    DamagedRequest,
    gzip_member,
    is_packed,
    is_whole,
    joined,
    joined_crc,
    merged,
    packed,
    plain_copy,
    request_bytes,
    unpacked,
)
from tests.records import request_of

FIRST_TAG = b"\x0a"  # of every encoded request that is not empty
GZIP_WINDOW = zlib.MAX_WBITS | 16


@pytest.fixture(autouse=True, scope="module", params=["zlib", "isal.isal_zlib"])
def encoder(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything holds whichever encoder is installed, and one reads what the other packed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "encoder", pytest.importorskip(request.param))
        yield


def sample_request(size: int, seed: int) -> bytes:
    """So many bytes that compress somewhat, beginning as every encoded request does."""
    dice = random.Random(seed)
    words = [dice.randbytes(dice.randrange(1, 40)) for _ in range(30)]
    body = FIRST_TAG
    while len(body) < size:
        body += dice.choice(words)
    return body[:size]


requests = st.builds(
    sample_request,
    st.one_of(st.integers(0, 3 * LEAST_BYTES), st.integers(0, 3 * LARGE_BYTES), st.just(150_000)),
    st.integers(0, 99),
)


def only_member(compressed: bytes) -> bytes:
    """What a reader gets that stops after the first gzip member; fails when there is anything behind it."""
    reader = zlib.decompressobj(GZIP_WINDOW)
    content = reader.decompress(compressed)
    assert reader.eof
    assert not reader.unused_data
    return content


@given(st.binary(max_size=200), st.integers(0, 300_000), st.integers(0, 9))
def test_the_checksum_of_two_pieces_is_that_of_the_whole(first: bytes, second_bytes: int, seed: int) -> None:
    second = random.Random(seed).randbytes(second_bytes)
    assert joined_crc(zlib.crc32(first), zlib.crc32(second), second_bytes) == zlib.crc32(first + second)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536, 65_537, 1 << 24])
def test_the_checksum_is_right_at_the_ends_of_its_digits(size: int) -> None:
    assert joined_crc(zlib.crc32(b"first"), zlib.crc32(bytes(size)), size) == zlib.crc32(b"first" + bytes(size))


@given(requests)
def test_a_request_comes_out_as_it_went_in(request: bytes) -> None:
    held = packed(request)
    assert len(held) <= len(request)
    assert unpacked(held) == request
    assert request_bytes(held) == len(request)
    assert is_whole(held)


FEW = settings(max_examples=25)
"""Each is some hundred kilobytes, and there are two encoders."""


@FEW
@given(st.lists(st.tuples(requests, st.booleans()), min_size=1, max_size=8))
def test_joined_requests_are_one_request_and_one_gzip_member(parts: list[tuple[bytes, bool]]) -> None:
    held = joined([packed(request) if packs else request for request, packs in parts])
    whole = b"".join(request for request, _ in parts)
    assert unpacked(held) == whole
    assert request_bytes(held) == len(whole)
    assert gzip.decompress(gzip_member(held)) == whole
    assert only_member(gzip_member(held)) == whole


@FEW
@given(st.lists(st.lists(requests, min_size=1, max_size=3), min_size=1, max_size=3))
def test_what_was_joined_can_be_joined_again(parts: list[list[bytes]]) -> None:
    held = joined([joined([packed(request) for request in some]) for some in parts])
    assert unpacked(held) == b"".join(request for some in parts for request in some)


def test_large_requests_go_out_as_they_were_packed() -> None:
    parts = [packed(sample_request(LARGE_BYTES + n, n)) for n in range(3)]
    assert joined(parts)[HEADER.size :] == b"".join(part[HEADER.size :] for part in parts)


def test_small_requests_are_compressed_together() -> None:
    one = sample_request(2 * LEAST_BYTES, 1)
    together, alone = gzip_member(joined([packed(one)] * 7)), gzip_member(packed(one))
    assert is_packed(packed(one))
    assert len(together) < 2 * len(alone)
    with_a_large_one = joined([packed(one)] * 7 + [packed(sample_request(LARGE_BYTES, 2))])
    assert len(with_a_large_one) < 2 * len(alone) + len(packed(sample_request(LARGE_BYTES, 2)))


def test_a_large_request_that_is_compressed_when_it_is_sent_is_compressed_harder() -> None:
    chance = random.Random(1)
    words = [chance.randbytes(chance.randrange(3, 12)).hex().encode() for _ in range(2_000)]
    together = FIRST_TAG + b" ".join(chance.choice(words) for _ in range(PLAIN_BYTES // 8))
    sent = gzip_member(together)
    assert gzip.decompress(sent) == together
    if packing.encoder is not zlib:
        assert len(sent) < len(packed(together))


def test_what_packing_would_not_make_smaller_is_held_as_it_is() -> None:
    noise = FIRST_TAG + random.Random(1).randbytes(5000)
    for request in (b"", FIRST_TAG, sample_request(LEAST_BYTES - 1, 1), noise):
        assert packed(request) is request
        assert gzip.decompress(gzip_member(request)) == request


@given(st.data())
def test_a_damaged_one_never_comes_out_as_something_else(data: st.DataObject) -> None:
    request = sample_request(4000, 1)
    held = bytearray(packed(request))
    bit = data.draw(st.integers(8, len(held) * 8 - 1))
    held[bit // 8] ^= 1 << bit % 8
    try:
        assert unpacked(bytes(held)) == request
    except DamagedRequest:
        assert not is_whole(bytes(held))


@given(st.integers(6, 1000))
def test_one_that_was_cut_off_is_damaged(missing: int) -> None:  # up to 5 bytes only mark where the stream ends
    with pytest.raises(DamagedRequest):
        unpacked(packed(sample_request(4000, 1))[:-missing])


def test_one_that_holds_a_byte_more_than_it_says_is_damaged() -> None:
    request = sample_request(4000, 1)
    held = packed(request)
    _, size, _ = HEADER.unpack_from(held)
    assert size == len(request)
    for checked in (request[:-1], request):
        with pytest.raises(DamagedRequest):
            unpacked(HEADER.pack(MARK, size - 1, packing.checksum(checked)) + held[HEADER.size :])


def test_a_bomb_is_damaged_and_fills_no_memory() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(stream.compress(bytes(1 << 20)) for _ in range(200)) + stream.flush(zlib.Z_SYNC_FLUSH)
    held = [HEADER.pack(MARK, claimed, 0) + bomb for claimed in (10, MAX_REQUEST_BYTES + 1)]
    tracemalloc.start()
    try:
        for one in held:
            with pytest.raises(DamagedRequest):
                unpacked(one)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_damaged_part_among_others_is_seen_in_the_whole() -> None:
    good, bad = packed(sample_request(4000, 1)), bytearray(packed(sample_request(4000, 2)))
    bad[HEADER.size + 20] ^= 0x10
    for parts in ([bytes(bad), good], [good, bytes(bad)], [good, bytes(bad), packed(sample_request(LARGE_BYTES, 3))]):
        with pytest.raises(DamagedRequest):
            unpacked(joined(parts))


def test_no_encoded_message_begins_with_the_mark() -> None:
    assert MARK & 7 == 7, "a wire type that there is not"


def test_a_small_request_is_kept_beside_its_packed_form_and_no_other() -> None:
    small, large, tiny = sample_request(LARGE_BYTES, 1), sample_request(PLAIN_BYTES, 2), b"\x0a"
    assert plain_copy(small, packed(small)) is small
    assert plain_copy(large, packed(large)) == b""
    assert plain_copy(tiny, packed(tiny)) == b""  # it is held as it is


Records = list[tuple[str, str]]


def records_of(request: bytes) -> dict[str, list[str]]:
    """Bodies by node, in order."""
    found: dict[str, list[str]] = {}
    for resource in ExportLogsServiceRequest.FromString(request).resource_logs:
        bodies = found.setdefault(resource.resource.attributes[0].value.string_value, [])
        bodies += [record.body.string_value for scope in resource.scope_logs for record in scope.log_records]
    return found


nodes = st.sampled_from(["node-2", "node-1", "x" * 200, "y" * 20_000])


@FEW
@given(st.lists(st.tuples(nodes, st.text(max_size=300)), max_size=30))
def test_it_holds_the_same_records_in_the_order_of_each_resource(records: Records) -> None:
    requests = [request_of(body, node=node) for node, body in records]
    assert records_of(merged(requests)) == records_of(b"".join(requests))


@FEW
@given(st.lists(st.tuples(nodes, st.text(max_size=10)), min_size=1, max_size=30))
def test_each_resource_is_there_once_and_they_are_in_order(records: Records) -> None:
    logs = ExportLogsServiceRequest.FromString(merged([request_of(body, node=node) for node, body in records]))
    resources = [each.resource.SerializeToString() for each in logs.resource_logs]
    assert len(resources) == len({node for node, _ in records})
    of_one_length = [resource for resource in resources if len(resource) == len(resources[0])]
    assert of_one_length == sorted(of_one_length)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_what_is_laid_out_otherwise_is_joined_and_never_changed(requests: list[bytes]) -> None:
    assert sorted(merged(requests)) == sorted(b"".join(requests))


def test_a_request_without_a_resource_is_joined_as_it_is() -> None:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1)
    bare = request.SerializeToString()
    assert merged([request_of("a"), bare]) == request_of("a") + bare


def test_a_resource_without_records_is_one_resource_too() -> None:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().resource.attributes.add(key="host.name").value.string_value = "a"
    alone = request.SerializeToString()
    assert merged([alone, alone, request_of("body", node="b")]).count(alone[2:]) == 1

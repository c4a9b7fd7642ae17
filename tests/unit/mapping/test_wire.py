"""The bytes written by hand against the official classes, for anything that an event may hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelbridge.event import Stream
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.model import MappingCounts
from otelbridge.mapping.parts import Parts
from otelbridge.mapping.record_encoder import RecordEncoder
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.wire import (
    RECORD_ATTRIBUTE,
    Record,
    any_value,
    assembler,
    attributes,
    body_heads,
    clip,
    key_value,
    text_heads,
)
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.protobuf import varint
from tests.unit.mapping.samples import RECEIVED, log, mapped, plain, records_of, sample_events, see

ANY_TEXT = st.text(max_size=400)
INT64 = st.integers(-(2**63), 2**63 - 1)
SCALARS = ANY_TEXT | INT64 | st.booleans() | st.binary(max_size=40) | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4), max_leaves=12
)


def official(value: Any) -> AnyValue:
    """The same value by the official classes."""
    made = AnyValue()
    match value:
        case str():
            made.string_value = value
        case bool():
            made.bool_value = value
        case int():
            made.int_value = value
        case float():
            made.double_value = value
        case bytes():
            made.bytes_value = value
        case list():
            made.array_value.SetInParent()
            made.array_value.values.extend(official(item) for item in value)
        case dict():
            made.kvlist_value.SetInParent()
            made.kvlist_value.values.extend(KeyValue(key=key, value=official(item)) for key, item in value.items())
    return made


def depth(value: Any) -> int:
    if isinstance(value, list | dict):
        return 1 + max((depth(item) for item in (value.values() if isinstance(value, dict) else value)), default=0)
    return 0


@given(VALUES.filter(lambda value: depth(value) <= 4))
def test_a_value_is_what_the_official_class_makes_of_it(value: Any) -> None:
    assert AnyValue.FromString(any_value(value)) == official(value)


@given(st.text(min_size=1, max_size=200), SCALARS)
def test_an_attribute_is_byte_by_byte_the_official_one(key: str, value: Any) -> None:
    assert key_value(key, value) == KeyValue(key=key, value=official(value)).SerializeToString()


def test_what_is_nested_too_deep_is_written_as_text() -> None:
    value: Any = "x"
    for _ in range(40):
        value = [value]
    parsed = AnyValue.FromString(any_value(value))
    for _ in range(4):
        (parsed,) = parsed.array_value.values
    assert parsed.string_value.startswith("[[[[")


@given(st.integers(0, 2**64 - 1))
def test_varints_agree_with_protobuf(number: int) -> None:
    assert b"\x08" + varint(number) == LogRecord(time_unix_nano=0, flags=0).SerializeToString() + (
        b"\x08" + bytes(_slow_varint(number))
    )


def _slow_varint(number: int) -> list[int]:
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return [*digits, number]


@given(st.lists(ANY_TEXT | st.text(min_size=100, max_size=140) | st.text(min_size=900, max_size=1200), max_size=5))
def test_texts_encoded_for_speed_are_encoded_alike(texts: list[str]) -> None:
    cut: list[str] = []
    before = text_heads("some.key")
    fast = b"".join(before.learn(len(raw)) + raw for raw in map(str.encode, texts))
    assert [plain(pair.value) for pair in LogRecord.FromString(fast).attributes] == texts
    kept = [text for text in texts if text]
    usual = attributes(RECORD_ATTRIBUTE, [("some.key", text) for text in kept], 1 << 16, cut)
    assert [plain(pair.value) for pair in LogRecord.FromString(usual).attributes] == kept
    assert cut == []
    heads = body_heads()
    bodies = [(heads.recall(len(raw)) or heads.learn(len(raw))) + raw for raw in map(str.encode, texts)]
    assert [LogRecord.FromString(body).body.string_value for body in bodies] == texts


@given(st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 5))
@example((0x3FFF, 0x4000, 0x4000, 1, 0))
@example((0x4000, 1, 0x3FFF, 0, 1000))
@example((2**28 - 1, 0, 2**28 - 1, 7, 0))
@example((2**28, 3, 2**28, 7, 0))
@example((0, 3, 5, 7, 0))
def test_numbers_encoded_for_speed_are_encoded_alike(numbers: tuple[int, int, int, int, int]) -> None:
    encoder = RecordEncoder(Stream.ALERTS, pb.Alert, Parts(MappingSettings(), MappingCounts()))
    record = LogRecord.FromString(encoder.encode_numbers((0, *numbers)))
    keys = (
        "process.pid",
        "process.parent_pid",
        "process.vpid",
        "kubearmor.process.parent_vpid",
        "process.real_user.id",
    )
    expected = {key: number for key, number in zip(keys, numbers, strict=True) if number}
    if numbers[4]:
        expected["process.real_user.id"] = numbers[4] & 0xFFFF_FFFF
    if numbers[0]:
        expected["process.real_user.id"] = numbers[4] & 0xFFFF_FFFF
    assert {pair.key: pair.value.int_value for pair in record.attributes} == expected


@given(ANY_TEXT, st.integers(0, 500))
def test_clipping_never_splits_a_character(text: str, limit: int) -> None:
    short = clip(text, limit)
    assert text.startswith(short)
    assert len(short.encode()) <= limit
    if short != text:
        assert len(text[: len(short) + 1].encode()) > limit


@given(st.lists(ANY_TEXT, max_size=30), st.integers(1, 300))
def test_a_list_is_cut_at_its_limit_and_told(items: list[str], limit: int) -> None:
    cut: list[str] = []
    encoded = attributes(RECORD_ATTRIBUTE, [("list", items)], limit, cut)
    record = LogRecord.FromString(encoded)
    kept = plain(record.attributes[0].value) if record.attributes else []
    assert items[: len(kept)] == kept or (len(kept) == 1 and kept[0] and items[0].startswith(kept[0]))
    assert (kept != items) == (cut == ["list"])
    assert not record.attributes or kept


def messages(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Messages with anything in any of their fields."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in kind.DESCRIPTOR.fields:
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                fields[field.name] = st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=5)
            else:
                fields[field.name] = st.none() | st.builds(
                    field.message_type._concrete_class, **{inner.name: ANY_TEXT for inner in field.message_type.fields}
                )
        elif field.type == field.TYPE_STRING:
            fields[field.name] = (
                st.lists(ANY_TEXT, max_size=4) if field.is_repeated else TELLING.get(field.name, ANY_TEXT)
            )
        else:
            bits = 63 if field.type == field.TYPE_INT64 else 31
            fields[field.name] = st.just(0) | st.integers(-(2**bits), 2**bits - 1)
    return st.builds(kind, **fields)


TELLING = {
    "Operation": st.sampled_from(["Process", "File", "Network", "NetworkFirewall", "Capabilities", "Device", "Syscall"])
    | ANY_TEXT,
    "Data": st.sampled_from([
        "syscall=SYS_OPENAT flags=", "kprobe=tcp_accept", "kfunc=UDP_SENDMSG,domain=a", "lsm=CAPABLE ",
        "syscall=SYS_BIND",
    ]) | ANY_TEXT | ANY_TEXT.map(lambda text: f"syscall={text} {text}={text}"),
    "Resource": ANY_TEXT
    | ANY_TEXT.map(lambda text: f"sa_family=AF_UNIX sun_path={text}")
    | ANY_TEXT.map(lambda text: f"remoteip={text} port={text} remotehost={text}/{text}/{text}"),
    "Severity": st.sampled_from(["", "1", "10", "11"]) | ANY_TEXT,
    "Result": st.sampled_from(["Passed", "Permission denied"]) | ANY_TEXT,
}  # fmt: skip
SETTINGS = st.builds(
    MappingSettings,
    body=st.sampled_from(["text", "json", "map"]),
    keep_original=st.booleans(),
    keep_raw=st.booleans(),
    parse_labels=st.booleans(),
    kubernetes=st.booleans(),
    resource_granularity=st.sampled_from(["container", "pod", "node"]),
    max_value_bytes=st.sampled_from([256, 8192]),
    max_body_bytes=st.sampled_from([128, 1024]),
)
FUZZ = settings(max_examples=60, deadline=None)


def holds_up(stream: Stream, body: bytes, chosen: MappingSettings) -> None:
    mapper = Mapper(chosen, version="1")
    for _ in range(2):  # once from scratch, once from memory
        record = mapper.map(stream, decode(stream, body), RECEIVED)
        found = see(record)
        assert len(records_of(mapper.assemble([record]))) == 1
        assert all(value not in ("", [], None) for value in found.all.values()), found.all
        if chosen.body == "text":
            assert found.body is None or found.body.isprintable()
            assert found.body is None or len(found.body.encode()) <= chosen.max_body_bytes
    first, second = (see(mapper.map(stream, decode(stream, body), RECEIVED)) for _ in range(2))
    assert first == second


@FUZZ
@given(messages(pb.Alert), SETTINGS)
def test_any_alert_gives_a_valid_request(message: pb.Alert, chosen: MappingSettings) -> None:
    holds_up(Stream.ALERTS, message.SerializeToString(), chosen)


@FUZZ
@given(messages(pb.Log), SETTINGS)
def test_any_log_gives_a_valid_request(message: pb.Log, chosen: MappingSettings) -> None:
    holds_up(Stream.LOGS, message.SerializeToString(), chosen)


@FUZZ
@given(messages(pb.Message), SETTINGS)
def test_any_message_gives_a_valid_request(message: pb.Message, chosen: MappingSettings) -> None:
    holds_up(Stream.MESSAGES, message.SerializeToString(), chosen)


@FUZZ
@given(st.binary(max_size=300), st.sampled_from([Stream.ALERTS, Stream.LOGS, Stream.MESSAGES]))
def test_any_bytes_give_a_valid_request(body: bytes, stream: Stream) -> None:
    mapper = Mapper(MappingSettings(), version="1")
    record = mapper.map(stream, decode(stream, body), RECEIVED)
    assert len(records_of(mapper.assemble([record]))) == 1


@FUZZ
@given(st.data())
def test_a_damaged_sample_gives_a_valid_request(data: st.DataObject) -> None:
    name, message = data.draw(st.sampled_from(list(sample_events())))
    stream = {pb.Alert: Stream.ALERTS, pb.Log: Stream.LOGS, pb.Message: Stream.MESSAGES}[type(message)]
    body = bytearray(message.SerializeToString())
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=8)):
        body[place] = data.draw(st.integers(0, 255))
    mapper = Mapper(MappingSettings(), version="1")
    record = mapper.map(stream, decode(stream, bytes(body)), RECEIVED)
    assert len(records_of(mapper.assemble([record]))) == 1, name


def test_requests_are_grouped_by_resource_and_carry_scope_and_schema() -> None:
    mapper = Mapper(MappingSettings(), version="9.8.7")
    here, there = log(), log(PodName="other", ContainerID="x")
    records = [
        mapper.map(Stream.LOGS, decode(Stream.LOGS, message.SerializeToString()), RECEIVED)
        for message in (here, there, here, there, here)
    ]
    request = ExportLogsServiceRequest.FromString(mapper.assemble(records))
    assert [len(group.scope_logs[0].log_records) for group in request.resource_logs] == [2, 3]
    for group in request.resource_logs:
        (scope_logs,) = group.scope_logs
        assert (scope_logs.scope.name, scope_logs.scope.version) == ("otelbridge.kubearmor", "9.8.7")
        assert scope_logs.schema_url == group.schema_url == "https://opentelemetry.io/schemas/1.44.0"


def test_two_requests_joined_are_one() -> None:
    assemble = assembler("1")
    records = [mapped(message) for _, message in sample_events()]
    joined = assemble(records[:20]) + assemble(records[20:])
    assert [record for _, record in records_of(joined)] == [
        record for _, record in records_of(assemble(records[:20])) + records_of(assemble(records[20:]))
    ]
    assert len(records_of(joined)) == len(records)


def test_no_records_make_an_empty_request() -> None:
    assemble = assembler("1")
    assert assemble([]) == b""
    assert assemble([Record(Stream.LOGS, b"", b"", 0)]) != b""


def test_of_a_list_that_is_too_long_the_first_items_are_kept_and_of_a_first_one_its_beginning() -> None:
    for given_, kept in (
        (["a" * 300, "b"], ["a" * 256]),
        (["a" * 200, "b" * 100], ["a" * 200]),
        (["a", "b"], ["a", "b"]),
    ):
        cut: list[str] = []
        found = LogRecord.FromString(attributes(RECORD_ATTRIBUTE, [("k", given_)], 256, cut)).attributes[0]
        assert [item.string_value for item in found.value.array_value.values] == kept
        assert cut == ([] if kept == given_ else ["k"])


@pytest.mark.parametrize("number", [0, 127, 128, 2047, 2048, 16383, 16384, 2**28 - 1, 2**28, 2**32, 2**64 - 1])
def test_a_number_is_written_in_base_128_with_its_low_digits_first(number: int) -> None:
    encoded = varint(number)
    assert sum((digit & 0x7F) << 7 * place for place, digit in enumerate(encoded)) == number
    assert all(digit & 0x80 for digit in encoded[:-1])
    assert not encoded[-1] & 0x80
    assert len(encoded) == max(1, -(-number.bit_length() // 7))

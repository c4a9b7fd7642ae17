from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbridge.event import Stream
from otelbridge.mapping.decode import _text, decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pb import kubearmor_pb2 as pb
from tests.unit.mapping.samples import RECEIVED, STREAMS, Seen, alert, log, sample_events, see

BAD = b"\xff\xfe"


def spoiled(message: pb.Alert | pb.Log | pb.Message) -> bytes:
    """The message with every `@@` replaced by two bytes that are not UTF-8."""
    return message.SerializeToString().replace(b"@@", BAD)


def mapped(stream: Stream, body: bytes, mapper: Mapper | None = None) -> Seen:
    mapper = mapper or Mapper(MappingSettings(), version="1")
    return see(mapper.map(stream, decode(stream, body), RECEIVED))


@pytest.mark.parametrize("stream", [Stream.ALERTS, Stream.LOGS, Stream.MESSAGES])
def test_every_sample_decodes_strictly(stream: Stream) -> None:
    for _, message in sample_events():
        if STREAMS[type(message)] is stream:
            decoded = decode(stream, message.SerializeToString())
            assert (decoded.message, decoded.how, decoded.why, decoded.unknown) == (message, "strict", "", ())


def test_invalid_utf8_anywhere_is_written_out() -> None:
    message = alert(Source="x@@y", PodName="p@@", ATags=["t@@"])
    message.Owner.Name = "o@@"
    message.EventData["k@@"] = "v@@"
    decoded = decode(Stream.ALERTS, spoiled(message))
    assert decoded.how == "lenient"
    assert "UTF-8" in decoded.why
    got = decoded.message
    assert isinstance(got, pb.Alert)
    assert (got.Source, got.PodName, got.Owner.Name) == ("x\\xff\\xfey", "p\\xff\\xfe", "o\\xff\\xfe")
    assert list(got.ATags) == ["t\\xff\\xfe"]
    assert dict(got.EventData) == {"k\\xff\\xfe": "v\\xff\\xfe"}
    assert got.HostPID == message.HostPID


def test_a_lenient_event_says_so_and_is_counted() -> None:
    mapper = Mapper(MappingSettings(), version="1")
    found = mapped(Stream.ALERTS, spoiled(alert(Source="a@@")), mapper)
    assert found.attributes["kubearmor.decode"] == "lenient"
    assert found.attributes["kubearmor.source"] == "a\\xff\\xfe"
    assert (mapper.tally.sanitized, mapper.tally.raw) == (1, 0)


def test_lenient_works_for_logs_and_messages_too() -> None:
    assert mapped(Stream.LOGS, spoiled(log(Resource="/a@@"))).attributes["file.path"] == "/a\\xff\\xfe"
    assert mapped(Stream.MESSAGES, spoiled(pb.Message(Message="m@@"))).body == "m\\xff\\xfe"


@pytest.mark.parametrize("stream", [Stream.ALERTS, Stream.LOGS, Stream.MESSAGES])
def test_what_is_not_protobuf_travels_as_bytes(stream: Stream) -> None:
    mapper = Mapper(MappingSettings(), version="1")
    found = mapped(stream, b"\xff\xff\xff\x00", mapper)
    assert found.body == b"\xff\xff\xff\x00"
    assert found.attributes["kubearmor.decode"] == "raw"
    assert found.attributes["kubearmor.decode_error"]
    assert found.record.severity_number == 13
    assert found.resource["service.name"] == "kubearmor"
    assert mapper.tally.raw == 1


def test_a_raw_event_of_16_mib_is_cut_and_said() -> None:
    mapper = Mapper(MappingSettings(), version="1")
    found = mapped(Stream.LOGS, b"\xff" * (16 << 20), mapper)
    assert len(found.body) == 1 << 20
    assert found.attributes["kubearmor.truncated"] == ["body"]
    assert mapper.tally.truncated == 1


def test_fields_of_a_newer_kubearmor_are_kept_and_counted() -> None:
    body = alert().SerializeToString()
    body += bytes.fromhex("a00605")  # 100: varint 5
    body += bytes.fromhex("aa0602") + b"hi"  # 101: text
    body += bytes.fromhex("b20602") + BAD  # 102: bytes that are no text
    body += bytes.fromhex("b80601b80602")  # 103: varints 1 and 2
    mapper = Mapper(MappingSettings(), version="1")
    decoded = decode(Stream.ALERTS, body)
    assert decoded.unknown == ["100=5", "101=hi", "102=0xfffe", "103=1", "103=2"]
    found = mapped(Stream.ALERTS, body, mapper).attributes
    assert found["kubearmor.unknown_fields"] == decoded.unknown
    assert mapper.tally.unknown_fields == 5


def test_an_unknown_group_is_kept_as_its_bytes() -> None:
    body = alert().SerializeToString() + bytes.fromhex("a306080512026869a406")  # 100: {1: 5, 2: "hi"}
    assert decode(Stream.ALERTS, body).unknown == ["100=0x080512026869"]


def test_a_known_field_of_another_wire_type_is_kept_as_unknown() -> None:
    body = log().SerializeToString() + bytes.fromhex("0a026869")  # 1, Timestamp, as text
    assert decode(Stream.LOGS, body).unknown == ["1=hi"]


def test_unknown_fields_survive_lenient_decoding() -> None:
    decoded = decode(Stream.ALERTS, spoiled(alert(Source="@@")) + bytes.fromhex("a00605"))
    assert (decoded.how, decoded.unknown) == ("lenient", ["100=5"])


def test_many_unknown_fields_are_bounded_and_the_rest_counted() -> None:
    body = alert().SerializeToString()
    for number in range(100, 140):
        tag = number << 3
        body += bytes((tag & 0x7F | 0x80, tag >> 7, 1))
    found = mapped(Stream.ALERTS, body)
    assert len(found.attributes["kubearmor.unknown_fields"]) == 32
    assert found.record.dropped_attributes_count == 8


def test_zero_bytes_are_taken_out_and_counted() -> None:
    message = alert(Source="a\0b", ATags=["x\0"], Labels="\0")
    message.EventData["k\0"] = "v\0"
    message.Owner.Name = "o\0"
    decoded = decode(Stream.ALERTS, message.SerializeToString())
    got = decoded.message
    assert isinstance(got, pb.Alert)
    assert decoded.sanitized
    assert (got.Source, got.Labels, got.Owner.Name, list(got.ATags), dict(got.EventData)) == (
        "ab", "", "o", ["x"], {"k": "v"}
    )  # fmt: skip
    mapper = Mapper(MappingSettings(), version="1")
    found = mapped(Stream.ALERTS, message.SerializeToString(), mapper)
    assert found.attributes["kubearmor.sanitized"] == ["nul"]
    assert mapper.tally.sanitized == 1


def test_an_empty_nested_message_is_no_zero_byte() -> None:
    message = alert()
    message.ExecEvent.SetInParent()
    message.EventData["Empty"] = ""
    body = message.SerializeToString()
    assert b"\0" in body
    assert not decode(Stream.ALERTS, body).sanitized


@given(st.binary(max_size=200))
def test_bytes_that_are_no_utf8_are_shown_as_python_escapes_them(raw: bytes) -> None:
    assert _text(raw) == raw.decode(errors="backslashreplace")

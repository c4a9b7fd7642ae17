from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from otelbridge.pb import kubearmor_pb2, kubearmor_pb2_grpc
from tests.unit.pb.contract import MESSAGES, METHODS

ROOT = Path(__file__).resolve().parents[3]
FILE = kubearmor_pb2.DESCRIPTOR
SERVICE = FILE.services_by_name["LogService"]
SCALARS = {
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_STRING: "string",
}


def type_of(field: FieldDescriptor) -> str:
    """A field's type in the words of the contract's table."""
    one = field.message_type.name if field.message_type else SCALARS[field.type]
    if field.message_type and field.message_type.GetOptions().map_entry:
        key, value = (type_of(field.message_type.fields_by_name[name]) for name in ("key", "value"))
        return f"map<{key}, {value}>"
    return f"repeated {one}" if field.is_repeated else one


def test_the_package_is_the_one_that_kubearmor_serves() -> None:
    assert FILE.package == "feeder"
    assert SERVICE.full_name == "feeder.LogService"


def test_there_are_no_messages_but_those_of_the_contract() -> None:
    assert set(FILE.message_types_by_name) == set(MESSAGES)
    assert set(FILE.services_by_name) == {"LogService"}
    assert not FILE.enum_types_by_name


@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_has_the_number_the_name_and_the_type_of_the_contract(name: str) -> None:
    ours = [f"{field.number} {field.name} {type_of(field)}" for field in FILE.message_types_by_name[name].fields]
    contract = [line.strip() for line in MESSAGES[name].splitlines() if line.strip()]
    assert sorted(ours) == sorted(contract)


@pytest.mark.parametrize("name", MESSAGES)
def test_no_field_is_optional_or_in_a_oneof(name: str) -> None:
    message = FILE.message_types_by_name[name]
    assert not message.oneofs, "an optional field would put its presence on the wire"


def test_every_method_has_the_messages_and_the_streaming_of_the_contract() -> None:
    ours = {
        method.name: (method.input_type.name, method.output_type.name, method.server_streaming)
        for method in SERVICE.methods
    }
    assert ours == METHODS
    assert not any(method.client_streaming for method in SERVICE.methods)


def test_the_stub_calls_the_paths_that_kubearmor_serves() -> None:
    paths = {}

    class Channel:
        """Notes what the stub asks for; it is never connected to anything."""

        def unary_unary(self, path: str, **_: object) -> None:
            paths[path] = False

        def unary_stream(self, path: str, **_: object) -> None:
            paths[path] = True

    kubearmor_pb2_grpc.LogServiceStub(Channel())  # type: ignore[no-untyped-call]
    assert paths == {f"/feeder.LogService/{name}": streams for name, (_, _, streams) in METHODS.items()}


def test_a_field_is_on_the_wire_where_the_contract_puts_it() -> None:
    # Field 44, wire type 2 (length-delimited): tag (44 << 3) | 2 = 354, as a varint e2 02.
    assert kubearmor_pb2.Alert(UserName="x").SerializeToString() == b"\xe2\x02\x01x"
    # Field 9, wire type 0; a negative int32 is ten bytes long.
    assert kubearmor_pb2.Log(HostPID=-1).SerializeToString() == b"\x48" + b"\xff" * 9 + b"\x01"


def test_generating_the_stubs_again_gives_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", "-Iotelbridge/pb=proto"),
        *(f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")),
        "proto/kubearmor.proto",
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    made = {path.name: path.read_bytes() for path in (tmp_path / "otelbridge" / "pb").iterdir()}
    assert len(made) == 3
    for name, content in made.items():
        assert content == (ROOT / "otelbridge" / "pb" / name).read_bytes(), f"{name} is stale: make proto"

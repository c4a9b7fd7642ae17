"""The names that records may have: few, typed, and none the beginning of another."""

from __future__ import annotations

from itertools import pairwise

import pytest
import yaml
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

from docs.registry_files import TYPES, files
from otelbridge.mapping.fields import ATTRIBUTES, Type
from otelbridge.telemetry.names import INSTRUMENTS, SPANS
from tests.contract import breaches


def test_no_key_is_the_beginning_of_another() -> None:
    keys = sorted(TYPES, key=lambda key: key.split("."))
    assert [(one, other) for one, other in pairwise(keys) if other.startswith(f"{one}.")] == []


def test_every_key_is_declared_once_and_fits_every_back_end() -> None:
    keys = [one.key for one in ATTRIBUTES]
    assert len(keys) == len(set(keys))
    taken = {"event_name", "severity_number", "severity_text", "trace_id", "span_id", "scope.name", "scope.version"}
    assert not taken & set(keys)
    assert all(key == key.lower() and key.isascii() and len(key) <= 64 for key in keys)


def test_every_example_is_of_its_type() -> None:
    kinds = {Type.STRING: str, Type.INT: int, Type.DOUBLE: float, Type.STRINGS: list, Type.STRING_TEMPLATE: str}
    for one in ATTRIBUTES:
        assert one.type is Type.BOOLEAN or isinstance(one.example, kinds[one.type]), one.key


def test_metrics_and_spans_use_declared_attributes_only() -> None:
    used = {key for one in INSTRUMENTS.values() for key in one.attributes}
    used |= {key for one in SPANS for key in one.attributes}
    assert used <= set(TYPES)


def test_the_registry_defines_what_is_ours_and_refers_to_the_rest() -> None:
    documents = [yaml.safe_load(text) for text in files().values()]
    groups = [group for document in documents for group in document.get("groups", ())]
    ids = [group["id"] for group in groups]
    assert len(ids) == len(set(ids))
    attributes = [attribute for group in groups for attribute in group["attributes"]]
    defined = {attribute["id"] for attribute in attributes if "id" in attribute}
    referred = {attribute["ref"] for attribute in attributes if "ref" in attribute}
    assert referred == set(TYPES) - {"otelbridge.instance"} | {"otelbridge.instance"} & referred
    assert defined == {key for key in TYPES if key.startswith(("kubearmor.", "otelbridge."))}


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("kubearmor.action", AnyValue(string_value="x"), True),
        ("kubearmor.action", AnyValue(int_value=1), False),
        ("kubearmor.tags", AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="x")])), True),
        ("kubearmor.tags", AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1)])), False),
        ("kubearmor.mood", AnyValue(string_value="x"), False),
        ("k8s.pod.label.app", AnyValue(string_value="x"), True),
        ("kubearmor.unknown_fields", AnyValue(bytes_value=b"x"), False),
    ],
)
def test_the_check_notices_a_key_or_a_type_that_is_not_in_the_registry(key: str, value: AnyValue, fits: bool) -> None:
    assert (breaches([KeyValue(key=key, value=value)]) == []) is fits

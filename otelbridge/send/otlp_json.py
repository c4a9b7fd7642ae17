"""OTLP's JSON form of an encoded ExportLogsServiceRequest: hexadecimal ids, int64 as strings, enums as numbers."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.queue.packing import unpacked

ID_FIELDS = ("traceId", "spanId")
"""Protobuf's JSON has bytes as base64; OTLP has these as hexadecimal."""


def to_document(request: bytes) -> dict[str, Any]:
    """The request, packed or not, as plain dictionaries and lists, field names in lowerCamelCase.

    Raises:
        DamagedRequest: it is not what was packed.
        google.protobuf.message.DecodeError: it is not an ExportLogsServiceRequest.
    """
    document = MessageToDict(ExportLogsServiceRequest.FromString(unpacked(request)), use_integers_for_enums=True)
    for per_resource in document.get("resourceLogs", ()):
        for per_scope in per_resource.get("scopeLogs", ()):
            for record in per_scope.get("logRecords", ()):
                for field in ID_FIELDS:
                    if field in record:
                        record[field] = base64.b64decode(record[field]).hex()
    return document


def to_line(request: bytes) -> str:
    """The request as one line of JSON, pure ASCII: what an attacker wrote into an event cannot steer a terminal."""
    return json.dumps(to_document(request), separators=(",", ":"))

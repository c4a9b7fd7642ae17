"""Builds the body of a record: one line of text, JSON, or a map."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from otelbridge.mapping.wire import Value, clip

ELLIPSIS = "…"
MIN_SUBJECT_BYTES = 32  # of what was touched, even where the words around it are long
MAX_MAP_ENTRIES = 64


def one_line(text: str) -> str:
    r"""The text with whatever could break a line, move a cursor or hide text written out: `\n`, `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def sentence(before: str, touched: str, after: str, limit_bytes: int) -> str:
    """One line; where it is too long, what was touched is shortened, so that the outcome stays in sight."""
    whole = before + touched + after
    if len(whole.encode()) <= limit_bytes:
        return whole
    room = limit_bytes - len((before + ELLIPSIS + after).encode())
    if room < MIN_SUBJECT_BYTES:
        return clip(whole, limit_bytes - len(ELLIPSIS.encode())) + ELLIPSIS
    return before + clip(touched, room) + ELLIPSIS + after


def as_map(message: Message, limit_bytes: int) -> dict[str, Value]:
    """The non-empty fields by their names in the proto; long texts are clipped, so that the whole stays valid."""
    return {field.name: _plain(field, value, limit_bytes) for field, value in message.ListFields()}


def as_json(message: Message, limit_bytes: int) -> str:
    """The same as JSON text, numbers as numbers: as KubeArmor's own tools print it."""
    return json.dumps(as_map(message, limit_bytes), ensure_ascii=False, separators=(",", ":"))


def _plain(field: FieldDescriptor, value: Any, limit_bytes: int) -> Value:
    if isinstance(value, str):
        return clip(value, limit_bytes)
    if isinstance(value, Message):
        return as_map(value, limit_bytes)
    if isinstance(value, Mapping):
        entries = sorted(value.items())[:MAX_MAP_ENTRIES]
        return {clip(key, limit_bytes): clip(text, limit_bytes) for key, text in entries}
    if field.is_repeated:
        return [clip(item, limit_bytes) for item in list(value)[:MAX_MAP_ENTRIES]]
    return int(value)

r"""A message whose texts are not all UTF-8 in, the same message with the bad bytes written out (`\xff`) out."""

from __future__ import annotations

from functools import cache

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_STRING, _BYTES = FieldDescriptor.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_BYTES


@cache
def shadow(descriptor: Descriptor) -> type[Message]:
    """The message's class with bytes in place of text: on the wire the two are the same. Made when first needed."""
    file = descriptor_pb2.FileDescriptorProto()
    descriptor.file.CopyToProto(file)
    del file.service[:]
    pending = list(file.message_type)
    while pending:
        kind = pending.pop()
        pending.extend(kind.nested_type)
        for field in kind.field:
            if field.type == descriptor_pb2.FieldDescriptorProto.TYPE_STRING:
                field.type = _BYTES
        if kind.options.map_entry:  # maps cannot have bytes as keys: on the wire a map is repeated entries anyway
            kind.options.map_entry = False
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(descriptor.full_name))


def parse_leniently(message: Message, body: bytes) -> Message:
    r"""Fills the message; bytes that are not UTF-8 become `\xff` and so on.

    Returns:
        The shadow, which knows the unknown fields.

    Raises:
        google.protobuf.message.DecodeError: it is not even protobuf.
    """
    bare = shadow(message.DESCRIPTOR)()
    bare.ParseFromString(body)
    _copy(bare, message)
    return bare


def strip_nul(message: Message) -> bool:
    """Takes zero bytes out of all texts: protobuf allows them, several back-ends do not. True if there were any."""
    found = False
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            dirty = {key: text for key, text in value.items() if "\0" in key or "\0" in text}
            for key, text in dirty.items():
                del value[key]
                value[key.replace("\0", "")] = text.replace("\0", "")
            found |= bool(dirty)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            found |= strip_nul(value)
        elif field.type == _STRING and field.is_repeated:
            if any("\0" in text for text in value):
                value[:] = [text.replace("\0", "") for text in value]
                found = True
        elif field.type == _STRING and "\0" in value:
            setattr(message, field.name, value.replace("\0", ""))
            found = True
    return found


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _copy(bare: Message, message: Message) -> None:
    for field, value in bare.ListFields():
        target = message.DESCRIPTOR.fields_by_name[field.name]
        if target.message_type is not None and target.message_type.GetOptions().map_entry:
            entries = getattr(message, field.name)
            for entry in value:
                entries[_text(entry.key)] = _text(entry.value)
        elif target.type == FieldDescriptor.TYPE_MESSAGE:
            _copy(value, getattr(message, field.name))
        elif target.type == _STRING and target.is_repeated:
            getattr(message, field.name).extend(_text(raw) for raw in value)
        else:
            setattr(message, field.name, _text(value) if target.type == _STRING else value)

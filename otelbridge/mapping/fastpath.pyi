from collections.abc import Mapping
from typing import Any

from otelbridge.event import RawEvent, Stream
from otelbridge.mapping.wire import Record

SLOT_OF_FIELD: Mapping[str, int]
ROLES: Mapping[str, int]
PARTS: Mapping[str, int]
GROUP_BITS: Mapping[str, int]
SLOT_BIT: int
TEMPLATE_ROLE_NUMBER: int

class Template:
    def __init__(self, number: int, **said: Any) -> None: ...

class Entry:
    weight: int
    def __init__(self, weight: int = 0, **said: Any) -> None: ...

class FastPath:
    def __init__(self, cache: Any) -> None: ...
    def map(self, body: bytes, received_unix_nano: int) -> Record | str | None: ...
    def attend(self, floods: Any) -> None: ...

def sift(
    paths: Mapping[Stream, Any], events: list[RawEvent], start: int = 0, mapped: bool = False
) -> tuple[list[RawEvent], bool, int]: ...

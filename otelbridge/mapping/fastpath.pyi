from collections.abc import Mapping
from typing import Any

from otelbridge.mapping.request import Record

SLOT_OF_FIELD: Mapping[str, int]
ROLES: Mapping[str, int]
GROUP_BITS: Mapping[str, int]
SLOT_BIT: int
FORM_ROLE_NUMBER: int

class Form:
    def __init__(self, number: int, **said: Any) -> None: ...

class Taught:
    weight: int
    def __init__(self, weight: int = 0, **said: Any) -> None: ...

class FastPath:
    def __init__(self, teacher: Any) -> None: ...
    def map(self, body: bytes, received_unix_nano: int) -> Record | None: ...

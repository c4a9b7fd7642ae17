from collections.abc import Callable, Iterable
from typing import Any

def attributes(
    tag: bytes, pairs: Iterable[tuple[str, Any]], limit_bytes: int, cut: list[str], other: Callable[..., bytes]
) -> bytes: ...

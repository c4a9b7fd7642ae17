"""`${env:NAME}` and `${env:NAME:-default}` in a settings file become the variable's value.

The form is that of OpenTelemetry's declarative configuration, with two choices of our own: only the form with `env:` is
looked at (a `$` in a redaction pattern stays what it is), and a variable that is not set is an error unless a default,
even an empty one, stands there. What comes out is not looked at again. `$${env:` writes a literal `${env:`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_REFERENCE = re.compile(r"(\$?)\$\{env:([^}:]*)(?::-([^}]*))?\}")


def substituted(value: Any, environment: Mapping[str, str], missing: Callable[[str, str], None], path: str = "") -> Any:
    """The value with every reference in its texts replaced; `missing(path, name)` is called for each unset variable."""

    def replacement(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return match.group(0)[1:]
        found = environment.get(name, "")
        if found:
            return found
        if default is None:
            missing(path, name)
        return default or ""

    if isinstance(value, str):
        return _REFERENCE.sub(replacement, value)
    if isinstance(value, dict):
        return {
            key: substituted(item, environment, missing, f"{path}.{key}" if path else key)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [substituted(item, environment, missing, f"{path}[{i}]") for i, item in enumerate(value)]
    return value

"""A settings file to start from: every setting with its meaning, commented out at its default."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from pydantic import BaseModel

from otelbridge.settings.show import plain
from otelbridge.settings.tree import Settings, is_section

COMMENT_WIDTH = 110

_HEAD = """\
# otelbridge settings. Everything is optional; what is commented out stands at its default.
# Each key can also be set by a variable (OTELBRIDGE_FEED__ENDPOINTS) or a flag (--set feed.endpoints=relay:32767).
# ${env:NAME:-default} in a value takes the value of a variable.
# `otelbridge config check` says what is wrong, `otelbridge config show` what is in force.
"""

_EXAMPLES = {"gate.rules": "[{name: no-kube-system-logs, action: drop, stream: [logs], namespace: [kube-system]}]"}
"""Where the default, an empty list, would not show the form."""


def starter() -> str:
    """The file's text: valid as it is, and the same as no file."""
    return _HEAD + "\n".join(_section(Settings, "", 0)) + "\n"


def _section(model: type[BaseModel], prefix: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, field in model.model_fields.items():
        if is_section(field.annotation):
            if depth == 0:
                yield ""
            section: type[BaseModel] = field.annotation  # type: ignore[assignment]  # is_section has just said so
            if section.__doc__:
                yield f"{indent}# {section.__doc__.strip().splitlines()[0]}"
            yield f"{indent}{name}:"
            yield from _section(section, f"{prefix}{name}.", depth + 1)
            continue
        yield from textwrap.wrap(
            field.description or "",
            COMMENT_WIDTH,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        default = plain(field.get_default(call_default_factory=True, validated_data={}))
        # JSON is YAML: quoting and lists need no further thought.
        yield f"{indent}# {name}: {_EXAMPLES.get(prefix + name) or json.dumps(default)}"

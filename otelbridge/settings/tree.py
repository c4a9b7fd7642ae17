"""The settings of every component as one frozen tree, a walk over its leaves, and text as a leaf's type.

Text comes from a variable, a flag or a `${env:...}`. Lists are JSON (`["a", "b"]`) or comma-separated; maps are JSON or
`key=value` pairs separated by commas; everything else stays text, and pydantic reads numbers and booleans out of it.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

from otelbridge.feed.settings import FeedSettings
from otelbridge.gate.settings import GateSettings
from otelbridge.mapping.settings import MappingSettings
from otelbridge.queue.settings import QueueSettings
from otelbridge.send.settings import SendSettings
from otelbridge.status.settings import StatusSettings
from otelbridge.telemetry.settings import TelemetrySettings

ENVIRONMENT_PREFIX = "OTELBRIDGE_"
ENVIRONMENT_SEPARATOR = "__"


class BridgeSettings(BaseModel):
    """What concerns the bridge as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drain_seconds: float = Field(
        default=25,
        ge=0,
        le=86400,
        description="On SIGTERM, deliver what is held for so long; what is left waits on disk for the next start. "
        "Kubernetes' grace period must be longer.",
    )
    reload_on_change: bool = Field(
        default=False,
        description="Read the settings file again when its content changes (a ConfigMap's does). SIGHUP does so at any "
        "time. `gate`, `mapping`, `send` and `telemetry` take effect, without losing a subscription or an event; the "
        "log names what waits for a restart: the other sections, `telemetry.service_name`, "
        "`telemetry.resource_attributes` and `telemetry.coverage`.",
    )


class Settings(BaseModel):
    """Everything that an operator can say, in the order in which an event meets it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bridge: BridgeSettings = Field(default_factory=BridgeSettings)
    feed: FeedSettings = Field(default_factory=FeedSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    mapping: MappingSettings = Field(default_factory=MappingSettings)
    queue: QueueSettings = Field(default_factory=QueueSettings)
    send: SendSettings = Field(default_factory=SendSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)
    status: StatusSettings = Field(default_factory=StatusSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One setting: where it stands, and what may stand there."""

    path: str
    annotation: Any
    default: Any
    description: str

    @property
    def environment_name(self) -> str:
        """Its variable: `feed.retry.max_seconds` is `OTELBRIDGE_FEED__RETRY__MAX_SECONDS`."""
        return ENVIRONMENT_PREFIX + self.path.upper().replace(".", ENVIRONMENT_SEPARATOR)


def section_at(path: str, root: type[BaseModel] = Settings) -> type[BaseModel] | None:
    """The model of a section (`feed.retry`), or None where the path is a leaf or unknown."""
    model = root
    for name in path.split(".") if path else ():
        field = model.model_fields.get(name)
        if field is None or not is_section(field.annotation):
            return None
        model = field.annotation  # type: ignore[assignment]  # is_section has just said so
    return model


def is_section(annotation: Any) -> bool:
    """Whether a field holds further settings rather than a value."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def leaves(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[Leaf]:
    """Every setting, in the tree's order."""
    for name, field in model.model_fields.items():
        path = prefix + name
        if is_section(field.annotation):
            yield from leaves(field.annotation, path + ".")  # type: ignore[arg-type]  # as above
        else:
            yield Leaf(
                path=path,
                annotation=field.annotation,
                default=field.get_default(call_default_factory=True, validated_data={}),
                description=field.description or "",
            )


def value_at(settings: BaseModel, path: str) -> Any:
    """What stands at a path of a settings object."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def from_text(annotation: Any, text: str) -> Any:
    """The text in the shape of the annotation.

    Raises:
        ValueError: with a sentence about what is wrong.
    """
    annotation, optional = _without_none(annotation)
    stripped = text.strip()
    if optional and not stripped:
        return None
    shape = get_origin(annotation)
    if shape is tuple:
        return _json(text) if stripped.startswith("[") else [part.strip() for part in text.split(",") if part.strip()]
    if shape is dict:
        return _json(text) if stripped.startswith("{") else pairs(text)
    return text


def pairs(text: str) -> dict[str, str]:
    """`a=1,b=2` as a map; keys and values without surrounding blanks."""
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            # The part itself is not shown: it may be a secret.
            raise ValueError("one of its parts is not of the form key=value")
        found[key.strip()] = value.strip()
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is not valid JSON for a setting: it is nested too deeply") from None


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) < len(get_args(annotation)) and len(members) == 1:
            return members[0], True
    return annotation, False

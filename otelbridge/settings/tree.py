"""The settings of every component as one frozen tree, values given for its leaves, and problems with them.

Text comes from a variable, a flag or a `${env:...}`. Lists are JSON (`["a", "b"]`) or comma-separated; maps are JSON or
`key=value` pairs separated by commas; everything else stays text, and a setting reads numbers and booleans out of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_origin

from otelbridge.feed.settings import FeedSettings
from otelbridge.gate.settings import GateSettings
from otelbridge.mapping.settings import MappingSettings
from otelbridge.net.secrets import HIDDEN, hidden, is_secret
from otelbridge.queue.settings import QueueSettings
from otelbridge.send.settings import LOGS_PATH, TRACES_PATH, SendSettings
from otelbridge.setting import Setting, SettingFault, is_section, section, setting, settings_of, without_none
from otelbridge.status.settings import StatusSettings
from otelbridge.telemetry.escape import escape
from otelbridge.telemetry.settings import TelemetrySettings

ENVIRONMENT_PREFIX = "OTELBRIDGE_"
ENVIRONMENT_SEPARATOR = "__"
SIGNAL_PATHS = {"send": LOGS_PATH, "telemetry.traces": TRACES_PATH, "telemetry.metrics": "/v1/metrics"}
"""Where OTLP over HTTP takes what each section sends."""


@section
class BridgeSettings:
    """The bridge as a whole."""

    drain_seconds: float = setting(
        default=25,
        ge=0,
        le=86400,
        description="After SIGTERM, go on delivering for this long; the rest waits on disk for the next start. "
        "Kubernetes' grace period must be longer.",
    )
    under_way_max_bytes: int = setting(
        default=160 * 1024 * 1024,
        ge=16 * 1024 * 1024,
        le=16 * 1024 * 1024 * 1024,
        description="Most bytes under way in memory: what gRPC reads ahead, events that wait to be encoded or written, "
        "batches while the disk does not accept writes, requests. Beyond it an event of 64 KiB or more waits up to two "
        "seconds for room; events that find none are dropped, counted and reported as a gap.",
    )
    reload_on_change: bool = setting(
        default=False,
        description="Reload the settings file when its content changes (as a ConfigMap's does). SIGHUP always does so. "
        "`gate`, `mapping`, `send` and `telemetry` take effect at once, without losing a subscription or an "
        "event. The other sections, `telemetry.service_name`, `telemetry.resource_attributes` and "
        "`telemetry.coverage` need a restart; the log names what has changed there.",
    )


@section
class Settings:
    """Everything that an operator can say, in the order in which an event meets it."""

    bridge: BridgeSettings = setting(default_factory=BridgeSettings)
    feed: FeedSettings = setting(default_factory=FeedSettings)
    gate: GateSettings = setting(default_factory=GateSettings)
    mapping: MappingSettings = setting(default_factory=MappingSettings)
    queue: QueueSettings = setting(default_factory=QueueSettings)
    send: SendSettings = setting(default_factory=SendSettings)
    telemetry: TelemetrySettings = setting(default_factory=TelemetrySettings)
    status: StatusSettings = setting(default_factory=StatusSettings)


class Leaf(NamedTuple):
    """One setting: where it stands, and what may stand there."""

    path: str
    setting: Setting

    @property
    def environment_name(self) -> str:
        """Its variable: `feed.retry.max_seconds` is `OTELBRIDGE_FEED__RETRY__MAX_SECONDS`."""
        return ENVIRONMENT_PREFIX + self.path.upper().replace(".", ENVIRONMENT_SEPARATOR)


def section_at(path: str) -> type[Any] | None:
    """The class of a section (`feed.retry`), or None where the path is a leaf or unknown."""
    model: type[Any] = Settings
    for name in path.split(".") if path else ():
        found = settings_of(model).get(name)
        if found is None or not is_section(found.type):
            return None
        model = found.type
    return model


def leaves(model: type[Any] = Settings, prefix: str = "") -> Iterator[Leaf]:
    """Every setting, in the tree's order."""
    for name, one in settings_of(model).items():
        if is_section(one.type):
            yield from leaves(one.type, f"{prefix}{name}.")
        else:
            yield Leaf(prefix + name, one)


def value_at(settings: Any, path: str) -> Any:
    """What stands at a path of a settings object."""
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


def built(values: Mapping[str, Any], model: type[Any] = Settings, prefix: str = "") -> Any:
    """The tree of checked values by path; what is not among them stands at its default."""
    return model(
        **{
            name: built(values, one.type, f"{prefix}{name}.") if is_section(one.type) else values[prefix + name]
            for name, one in settings_of(model).items()
            if is_section(one.type) or prefix + name in values
        }
    )


_BRACKETED_ADDRESS = re.compile(r"\[[0-9A-Fa-f]*:")
"""How `[fd00::1]:32767` begins, and no JSON does."""


def from_text(kind: Any, text: str) -> Any:
    """The text in the shape of a setting's type.

    Raises:
        ValueError: with a sentence about what is wrong.
    """
    kind, optional = without_none(kind)
    stripped = text.strip()
    if optional and not stripped:
        return None
    shape = get_origin(kind)
    if shape is tuple:
        is_json = stripped.startswith("[") and not _BRACKETED_ADDRESS.match(stripped)
        return _json(text) if is_json else [part.strip() for part in text.split(",") if part.strip()]
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


DEFAULT_ORIGIN = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One value, as somebody gave it: not checked yet."""

    path: str
    """Dotted, such as `feed.retry.max_seconds`; it need not exist."""
    value: Any
    origin: str
    """`flag --x`, `environment NAME`, `file PATH:LINE`."""
    base_of: str = ""
    """For an endpoint that is only a base: the path that OTLP/HTTP appends, such as `/v1/logs`."""


MAX_SHOWN_CHARS = 400
"""Of each part of a problem: all of them may quote what was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with the settings."""

    path: str
    """The setting, or the variable's or file's name where there is no such setting."""
    wrong: str
    """What is wrong, without its subject: `must be at least 10`."""
    cure: str
    origin: str = ""
    value: str = ""
    """As it may be shown: secrets are hidden."""

    def __str__(self) -> str:
        """One line that can be printed: path, value, what is wrong, cure, origin."""
        path, value, wrong, cure, origin = map(shortened, (self.path, self.value, self.wrong, self.cure, self.origin))
        subject = f"{path} = {value}" if value else path
        return escape(f"{subject}: {wrong}. {cure} ({origin})" if origin else f"{subject}: {wrong}. {cure}")


def shortened(text: str) -> str:
    """At most MAX_SHOWN_CHARS of it."""
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


class SettingsError(Exception):
    """The settings cannot be used; carries every problem found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(slots=True, kw_only=True)
class Layer:
    """What one place (file, environment, flags) has to say."""

    given: list[Given] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences for the operator about values that were taken, but perhaps not as meant."""

    def take_text(self, leaf: Leaf, text: str, origin: str) -> None:
        """Takes the text that a variable or a flag gives for a setting."""
        try:
            self.given.append(Given(path=leaf.path, value=from_text(leaf.setting.type, text), origin=origin))
        except ValueError as error:
            cure = "Write JSON, or items separated by commas (key=value for a map)."
            shown = str(hidden(leaf.path, text))
            self.problems.append(Problem(path=leaf.path, value=shown, wrong=str(error), cure=cure, origin=origin))


_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES = {
    f"{prefix}{unit}": size
    for power, letter in enumerate(("", "k", "m", "g"))
    for prefix, size in ((letter, 1000**power), (f"{letter}i" if letter else "", 1024**power))
    for unit in ("", "b")
}
"""`mb`, `mib`, `m` and `mi`; the case does not matter."""
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)\s*")


def problem_of(setting: str, fault: SettingFault, origin: str) -> Problem:
    """A fault in the value of a setting, in the form that all problems are reported in."""
    path = setting + fault.at
    cure = _quantity_cure(setting, fault.value) or fault.cure
    return Problem(path=path, value=_shown(path, fault.value), wrong=fault.wrong, cure=cure, origin=origin)


def _quantity_cure(name: str, value: Any) -> str:
    """`30s` or `512MiB` where a plain number belongs: the number that was meant."""
    units = _SECONDS if name.endswith("_seconds") else _BYTES if name.endswith("_bytes") else {}
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    unit = units.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        return ""
    number = float(match.group(1)) * unit
    return f"The unit stands in the name: write {int(number) if number.is_integer() else number}."


def _shown(path: str, value: Any) -> str:
    if value is None:
        return ""
    segments = re.sub(r"\[[^][]*]", "", path).split(".")
    if any(is_secret(segment) for segment in segments):
        return str(hidden("headers", value) if isinstance(value, Mapping) else HIDDEN)
    return shortened(str(hidden(segments[-1], value)))

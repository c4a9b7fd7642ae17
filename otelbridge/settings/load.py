"""Loads settings from file, environment and flags into one checked tree, and remembers where each value came from.

Precedence: flag > `OTELBRIDGE_*` > standard variables (`OTEL_*`, `KUBEARMOR_SERVICE`) > file > default. A higher place
replaces a value whole: lists and maps are not merged. Every problem is found before anything is reported. Says also
which changed settings a running bridge takes over, and which wait for a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from otelbridge.net.address import AddressError, parse_address
from otelbridge.send.settings import DEFAULT_ENDPOINTS, LOGS_PATH, SendSettings
from otelbridge.setting import SettingFault, checked, did_you_mean, settings_of, unknown
from otelbridge.settings.checks import complaints, date_notes, file_complaints, hints
from otelbridge.settings.environment import otel_environment, own_environment
from otelbridge.settings.tree import (
    DEFAULT_ORIGIN,
    SIGNAL_PATHS,
    Given,
    Layer,
    Leaf,
    Problem,
    Settings,
    SettingsError,
    built,
    leaves,
    problem_of,
    section_at,
    value_at,
)
from otelbridge.settings.yaml_file import from_file

FLAGS = {
    "--kubearmor": "feed.endpoints",
    "--streams": "feed.streams",
    "--endpoint": "send.endpoint",
    "--protocol": "send.protocol",
    "--queue-directory": "queue.directory",
    "--status-port": "status.port",
    "--log-level": "telemetry.log_level",
}
"""Flags of their own for what people set by hand."""

SET_FLAG = "--set"


def from_flags(flags: Mapping[str, str | Sequence[str]]) -> Layer:
    """What the command line says: each of FLAGS, and `--set`, with its value or a list of values."""
    layer = Layer()
    known = {leaf.path: leaf for leaf in leaves()}
    for flag, value in flags.items():
        texts = [value] if isinstance(value, str) else list(value)
        if flag == SET_FLAG:
            for text in texts:
                path, equals, given = text.partition("=")
                if equals:
                    _add(layer, known, path.strip(), given, f"flag {SET_FLAG} {path.strip()}")
                else:
                    layer.problems.append(
                        Problem(
                            path=text,
                            wrong="is not of the form PATH=VALUE",
                            cure="Write, for example, --set feed.retry.max_seconds=30.",
                            origin=f"flag {SET_FLAG}",
                        )
                    )
        else:
            _add(layer, known, FLAGS[flag], ",".join(texts), f"flag {flag}")
    return layer


def _add(layer: Layer, known: Mapping[str, Leaf], path: str, text: str, origin: str) -> None:
    leaf = known.get(path)
    if leaf is None:
        wrong, cure = "there is no such setting", did_you_mean(path, known)
        if path and section_at(path) is not None:
            first = next(name for name in known if name.startswith(f"{path}."))
            wrong, cure = "is a section", f"Set one of its keys, such as {first}."
        cure = cure or "`otelbridge config init` lists every setting."
        layer.problems.append(Problem(path=path, wrong=wrong, cure=cure, origin=origin))
    else:
        layer.take_text(leaf, text, origin)


def derived(settings: Settings, given: Mapping[str, Given]) -> tuple[dict[str, Given], list[str]]:
    """Further values that follow from those given, and notes about those that could not."""
    found: dict[str, Given] = {}
    notes: list[str] = []
    _full_addresses(settings, given, found)
    _send_endpoint(settings, given, found)
    endpoint = found["send.endpoint"].value if "send.endpoint" in found else settings.send.endpoint
    for signal in ("traces", "metrics"):
        _telemetry_signal(settings, given, found, notes, signal=signal, events_endpoint=endpoint)
    return found, notes


def _full_addresses(settings: Settings, given: Mapping[str, Given], found: dict[str, Given]) -> None:
    try:
        full = tuple(str(parse_address(endpoint)) for endpoint in settings.feed.endpoints)
    except AddressError:
        return  # the checks say so
    if full != settings.feed.endpoints:
        found["feed.endpoints"] = Given(path="feed.endpoints", value=full, origin=given["feed.endpoints"].origin)


def _send_endpoint(settings: Settings, given: Mapping[str, Given], found: dict[str, Given]) -> None:
    protocol = settings.send.protocol
    if protocol == "console":
        return
    if not settings.send.endpoint:
        default = _default_endpoint(protocol, LOGS_PATH)
        found["send.endpoint"] = Given(path="send.endpoint", value=default, origin="default")
        return
    _append_path("send.endpoint", protocol, settings.send.endpoint, given, found)


def _append_path(path: str, protocol: str, value: str, given: Mapping[str, Given], found: dict[str, Given]) -> None:
    """A base endpoint gets its signal's path appended, for HTTP only."""
    base = given.get(path)
    if base is not None and base.base_of and protocol == "http/protobuf":
        found[path] = Given(path=path, value=value.rstrip("/") + base.base_of, origin=base.origin)


def _telemetry_signal(
    settings: Settings,
    given: Mapping[str, Given],
    found: dict[str, Given],
    notes: list[str],
    *,
    signal: str,
    events_endpoint: str,
) -> None:
    section = f"telemetry.{signal}"
    path = SIGNAL_PATHS[section]
    send, chosen = settings.send, value_at(settings, section)
    if chosen.exporter != "otlp" or settings.telemetry.disabled:
        return

    def derive(key: str, value: Any, why: str) -> None:
        setting = f"{section}.{key}"
        if (setting not in given or given[setting].value == "") and value != getattr(chosen, key):
            found[setting] = Given(path=setting, value=value, origin=f"derived from {why}")

    own_protocol = f"{section}.protocol" in given or send.protocol == "console"
    protocol = chosen.protocol if own_protocol else send.protocol
    derive("protocol", protocol, "send.protocol")
    if chosen.endpoint:
        _append_path(f"{section}.endpoint", protocol, chosen.endpoint, given, found)
    elif send.protocol == "console" and f"{section}.exporter" not in given:
        derive("exporter", "none", "send.protocol")
    elif protocol != send.protocol:
        derive("endpoint", _default_endpoint(protocol, path), f"{section}.protocol")
    elif not (endpoint := _sibling(events_endpoint, protocol, path)):
        derive("exporter", "none", "send.endpoint")
        notes.append(
            f"The bridge's own {signal} go nowhere by OTLP: send.endpoint does not end with {LOGS_PATH}, so their "
            f"address cannot be derived from it. Set {section}.endpoint, or {section}.exporter to none."
        )
    else:
        derive("endpoint", endpoint, "send.endpoint")
        for key, value, source in _shared_with_send(send):
            derive(key, value, f"send.{source}")


def _shared_with_send(send: SendSettings) -> Iterator[tuple[str, Any, str]]:
    """What the events' endpoint and the telemetry's have in common when they are the same server, and its source."""
    for key in ("headers", "insecure", "compression", "timeout_seconds", "ca_file", "cert_file", "key_file"):
        yield key, getattr(send, key), key
    yield "lend_credentials", bool(send.token_file or send.headers_file), "token_file, send.headers_file"


def _default_endpoint(protocol: str, path: str) -> str:
    return DEFAULT_ENDPOINTS[protocol] + (path if protocol == "http/protobuf" else "")


def _sibling(endpoint: str, protocol: str, path: str) -> str:
    """Where another signal goes on the same server; empty where that cannot be told."""
    if protocol == "grpc":
        return endpoint
    return endpoint.removesuffix(LOGS_PATH) + path if endpoint.endswith(LOGS_PATH) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Checked settings, and how they came about."""

    settings: Settings
    origins: Mapping[str, str]
    """Path to origin, for what is not a default."""
    notes: tuple[str, ...] = ()
    """Sentences for the operator: what was read differently than perhaps meant."""
    file: Path | None = None

    def origin(self, path: str) -> str:
        """Where a value came from: `flag --x`, `environment X`, `file X:LINE`, `derived from X`, `default`."""
        return self.origins.get(path, DEFAULT_ORIGIN)


def load(
    *,
    file: Path | None = None,
    environment: Mapping[str, str],
    flags: Mapping[str, str | Sequence[str]] | None = None,
    check_files: bool = True,
) -> Loaded:
    """Loads, merges and checks the settings.

    Without `check_files`, for commands that connect to nothing, the files that the settings name (certificates, tokens)
    are not looked at.

    Raises:
        SettingsError: with every problem found.
    """
    layers = (
        from_file(file, environment),
        otel_environment(environment),
        own_environment(environment),
        from_flags(flags or {}),
    )
    problems = [problem for layer in layers for problem in layer.problems]
    notes = [note for layer in layers for note in layer.notes]
    given = {one.path: one for layer in layers for one in layer.given}

    given, faults = _read(given)
    problems += [problem for _, problem in faults]
    faulty = {path for path, _ in faults} | {problem.path for problem in problems}
    given = {path: one for path, one in given.items() if path not in faulty}

    further, further_notes = derived(_settings(given), given)
    settings = _settings({**given, **further})
    # A value that merely follows from another one is not blamed for its faults: the other one is.
    excused = faulty | (further.keys() - given.keys() - {"send.endpoint"})
    problems += _cross_checked(settings, given, excused, check_files=check_files)
    if problems:
        raise SettingsError(problems)
    dated = date_notes(settings) if check_files else ()
    origins = {path: one.origin for path, one in {**given, **further}.items() if one.origin != DEFAULT_ORIGIN}
    return Loaded(
        settings=settings,
        origins=origins,
        notes=tuple(dict.fromkeys([*notes, *further_notes, *hints(settings), *dated])),
        file=file,
    )


def _settings(given: Mapping[str, Given]) -> Settings:
    found: Settings = built({path: one.value for path, one in given.items()})
    return found


def _read(given: Mapping[str, Given]) -> tuple[dict[str, Given], list[tuple[str, Problem]]]:
    """The values in their settings' types, without those that are faulty; and the faults by setting."""
    known = {leaf.path: leaf.setting for leaf in leaves()}
    good: dict[str, Given] = {}
    problems = []
    for path, one in given.items():
        faults: list[SettingFault] = []
        if path in known:
            good[path] = replace(one, value=checked(known[path], one.value, faults))
        else:
            faults.append(_unknown(path))
        if faults:
            good.pop(path, None)
            problems += [(path, problem_of(path, fault, one.origin)) for fault in faults]
    return good, problems


def _unknown(path: str) -> SettingFault:
    section, _, name = path.rpartition(".")
    while (model := section_at(section)) is None:
        section = section.rpartition(".")[0]
    return SettingFault("", *unknown(name, settings_of(model)))


def _cross_checked(
    settings: Settings, given: dict[str, Given], excused: set[str], *, check_files: bool
) -> Iterator[Problem]:
    """What the checks across settings find, unless a setting concerned is excused."""
    seen: set[tuple[str, str]] = set()
    for complaint in chain(complaints(settings), file_complaints(settings) if check_files else ()):
        problem = complaint.as_problem(given)
        same = (problem.origin, problem.wrong)  # one variable feeds three sections: it is reported once
        if excused.isdisjoint(complaint.paths) and (problem.origin == DEFAULT_ORIGIN or same not in seen):
            seen.add(same)
            yield problem


AT_ONCE = ("gate", "mapping", "send", "telemetry")
"""Sections that a running bridge takes over without losing a subscription or a batch."""
IDENTITY = ("telemetry.service_name", "telemetry.resource_attributes", "telemetry.coverage")
"""What a process says it is, which stays the same while it lives (OpenTelemetry), and what is set up at a start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The paths of the settings that differ."""

    taken: tuple[str, ...]
    """Those that take effect now."""
    waiting: tuple[str, ...]
    """Those that need a restart."""


def changes(before: Settings, after: Settings) -> Changes:
    """What a reload would do."""
    paths = [leaf.path for leaf in leaves() if value_at(before, leaf.path) != value_at(after, leaf.path)]
    taken = tuple(path for path in paths if path.partition(".")[0] in AT_ONCE and path not in IDENTITY)
    return Changes(taken=taken, waiting=tuple(path for path in paths if path not in taken))


def merged(before: Settings, after: Settings) -> Settings:
    """The settings in force after a reload: what needs a restart stays as it was."""
    same = {path.partition(".")[2]: value_at(before, path) for path in IDENTITY}
    sections = {name: getattr(after, name) for name in AT_ONCE}
    return replace(before, **{**sections, "telemetry": replace(after.telemetry, **same)})

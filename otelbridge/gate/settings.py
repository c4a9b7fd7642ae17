"""Settings of rules and redaction."""

from __future__ import annotations

from typing import Any, Literal

from otelbridge.event import UpstreamStream
from otelbridge.setting import section, setting

# Fields of KubeArmor's messages that can hold arguments of a command.
COMMAND_FIELDS = ("Source", "Resource", "Data", "ProcessName", "ParentProcessName", "EventData")
REDACTABLE_FIELDS = (*COMMAND_FIELDS, "Cwd", "Message", "Labels", "Tags", "UserName")


@section
class RuleSettings:
    """One rule: it matches when all its conditions do, and a condition when any of its patterns does. The first rule that matches decides."""

    name: str = setting(min_length=1, description="Shown in the ledger and the metrics.")
    action: Literal["keep", "drop"] = setting(description="What happens to an event that the rule matches.")
    stream: tuple[UpstreamStream, ...] = setting(default=(), description="alerts, logs, messages.")
    namespace: tuple[str, ...] = setting(default=(), description="Shell patterns, such as `kube-*`.")
    pod: tuple[str, ...] = setting(default=(), description="Shell patterns.")
    container: tuple[str, ...] = setting(default=(), description="Shell patterns.")
    policy: tuple[str, ...] = setting(default=(), description="Shell patterns.")
    operation: tuple[str, ...] = setting(default=(), description="Process, File, Network, ... in any case.")
    action_taken: tuple[str, ...] = setting(
        default=(), description="KubeArmor's Action: Block, Audit, ... in any case; shell patterns."
    )
    outcome: tuple[Literal["allowed", "denied", "failed"], ...] = setting(
        default=(), description="What came of the operation."
    )
    min_severity: int | None = setting(default=None, ge=1, le=10, description="Matches from this policy severity on.")
    max_severity: int | None = setting(
        default=None, ge=1, le=10, description="Matches up to this policy severity; an event without one counts as 0."
    )
    label: dict[str, str] = setting(
        default_factory=dict, description="Pod labels: key to shell pattern; all must match."
    )


MAX_REDACTIONS = 64
"""Each is looked for in each text."""
MAX_PATTERN_CHARS = 4096
MAX_PATTERN_MEMORY_BYTES = 2 * 1024 * 1024
"""Of one pattern, compiled, with what RE2 keeps of the texts it has seen."""


def compiled(pattern: str) -> Any:
    """A pattern of the operator's, by RE2: it takes time in proportion to the text, whatever both are. Like `re.Pattern`.

    Raises:
        ValueError: RE2 does not take it.
    """
    import re2  # noqa: PLC0415 - for these patterns only

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_PATTERN_MEMORY_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0].decode(errors="backslashreplace")
    except UnicodeEncodeError:
        why = "a part of it is no character"
    raise ValueError(
        f"{pattern!r} is not a regular expression: {why}; RE2's syntax is meant, as in the Collector and in Go: it has "
        "no look-around and no back reference, name what is to be blacked out as (?P<secret>...)"
    )


def _regular_expression(pattern: str) -> None:
    if len(pattern) > MAX_PATTERN_CHARS:
        raise ValueError(f"is longer than {MAX_PATTERN_CHARS} characters; make several of it")
    regular_expression = compiled(pattern)
    if regular_expression.match("") and "secret" not in regular_expression.groupindex:
        raise ValueError(f"{pattern!r} matches the empty text, so it would black out nothing; make it match a secret")


def _redactable(fields: tuple[str, ...]) -> None:
    for field in fields:
        if field not in REDACTABLE_FIELDS:
            raise ValueError(f"{field!r} is not a field that can be redacted; use {', '.join(REDACTABLE_FIELDS)}")


@section
class RedactSettings:
    """One kind of secret to redact in command lines and arguments."""

    name: str = setting(min_length=1, description="Shown in the metrics.")
    pattern: str = setting(
        min_length=1,
        check=_regular_expression,
        description="A regular expression in RE2's syntax; where it has a group named `secret`, only that is redacted.",
    )
    fields: tuple[str, ...] = setting(
        default=COMMAND_FIELDS, min_length=1, check=_redactable, description="KubeArmor fields to look into."
    )


@section
class FloodSettings:
    """How many events of one kind (policy, workload, operation, outcome) go through one by one."""

    rate_per_second: float = setting(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Events of one kind that go through each second; those beyond are counted into one summary per kind "
        "and minute, and kept by the flight recorder. 0: no limit.",
    )
    burst: int = setting(default=100, ge=1, le=1_000_000, description="Events of one kind that go through at once.")


@section
class GateSettings:
    """Rules, in order, redactions, and floods."""

    rules: tuple[RuleSettings, ...] = setting(
        default=(), description="The first rule that matches decides; an event that no rule matches is kept."
    )
    redact: tuple[RedactSettings, ...] = setting(
        default=(), max_length=MAX_REDACTIONS, description=f"Secrets to redact, at most {MAX_REDACTIONS} kinds."
    )
    redact_common_secrets: bool = setting(
        default=False,
        description="Redact what looks like a password, token or key in a command line, by built-in patterns.",
    )
    flood: FloodSettings = setting(default=FloodSettings(), description="Floods: one kind of event over and over.")

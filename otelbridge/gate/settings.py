"""Settings of rules and redaction."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from otelbridge.event import UpstreamStream

# Fields of KubeArmor's messages that can hold arguments of a command.
COMMAND_FIELDS = ("Source", "Resource", "Data", "ProcessName", "ParentProcessName", "EventData")
REDACTABLE_FIELDS = (*COMMAND_FIELDS, "Cwd", "Message", "Labels", "Tags", "UserName")


class RuleSettings(BaseModel):
    """One rule: all conditions given must hold; a condition holds when any of its patterns does. The first rule that holds decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="Shown in the ledger and the metrics.")
    action: Literal["keep", "drop"] = Field(description="What happens to an event that this rule holds for.")
    stream: tuple[UpstreamStream, ...] = Field(default=(), description="alerts, logs, messages.")
    namespace: tuple[str, ...] = Field(default=(), description="Shell patterns, such as `kube-*`.")
    pod: tuple[str, ...] = Field(default=(), description="Shell patterns.")
    container: tuple[str, ...] = Field(default=(), description="Shell patterns.")
    policy: tuple[str, ...] = Field(default=(), description="Shell patterns.")
    operation: tuple[str, ...] = Field(default=(), description="Process, File, Network, ... in any case.")
    action_taken: tuple[str, ...] = Field(
        default=(), description="KubeArmor's Action: Block, Audit, ... in any case; shell patterns."
    )
    outcome: tuple[Literal["allowed", "denied", "failed"], ...] = Field(
        default=(), description="What really came of it."
    )
    min_severity: int | None = Field(default=None, ge=1, le=10, description="Holds from this policy severity on.")
    max_severity: int | None = Field(
        default=None, ge=1, le=10, description="Holds up to this policy severity; an event without one counts as 0."
    )
    label: dict[str, str] = Field(default_factory=dict, description="Pod labels: key to shell pattern; all must hold.")


class RedactSettings(BaseModel):
    """One kind of secret to black out in command lines and arguments."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="Shown in the metrics.")
    pattern: str = Field(
        min_length=1, description="A regular expression; where it has a group named `secret`, only that is blacked out."
    )
    fields: tuple[str, ...] = Field(default=COMMAND_FIELDS, min_length=1, description="KubeArmor fields to look into.")

    @field_validator("pattern")
    @classmethod
    def _pattern_is_a_regular_expression(cls, pattern: str) -> str:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}; Python's syntax is meant") from error
        if compiled.match("") and "secret" not in compiled.groupindex:
            raise ValueError(
                f"{pattern!r} matches the empty text, so it would black out nothing; make it match a secret"
            )
        return pattern

    @field_validator("fields")
    @classmethod
    def _fields_exist(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        for field in fields:
            if field not in REDACTABLE_FIELDS:
                raise ValueError(f"{field!r} is not a field that can be redacted; use {', '.join(REDACTABLE_FIELDS)}")
        return fields


class FloodSettings(BaseModel):
    """How many events of one kind (policy, workload, operation, outcome) go through one by one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate_per_second: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Events of one kind that go through each second; those beyond are counted into one summary per kind "
        "and minute, and kept by the flight recorder. 0: no limit.",
    )
    burst: int = Field(default=100, ge=1, le=1_000_000, description="So many of a kind go through at once.")


class GateSettings(BaseModel):
    """Rules, in order, redactions, and floods."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[RuleSettings, ...] = Field(
        default=(), description="The first rule that holds decides; an event that none holds for is kept."
    )
    redact: tuple[RedactSettings, ...] = Field(default=(), description="Secrets to black out.")
    redact_common_secrets: bool = Field(
        default=False,
        description="Black out what looks like a password, token or key in a command line, by built-in patterns.",
    )
    flood: FloodSettings = Field(default=FloodSettings(), description="Floods: one kind of event over and over.")

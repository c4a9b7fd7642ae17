"""What an operator can say about events that shall not pass, or not unredacted."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from otelbridge.event import Stream


class RuleSettings(BaseModel):
    """One rule: all conditions given must hold; a condition holds when any of its patterns does. The first rule that holds decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="Shown in the ledger and the metrics.")
    action: Literal["keep", "drop"] = Field(description="What happens to an event that this rule holds for.")
    stream: tuple[Stream, ...] = Field(default=(), description="alerts, logs, messages.")
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
    fields: tuple[str, ...] = Field(
        default=("Source", "Resource", "Data", "ProcessName", "ParentProcessName", "EventData"),
        description="KubeArmor fields to look into.",
    )


class GateSettings(BaseModel):
    """Rules, in order, and redactions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[RuleSettings, ...] = Field(
        default=(), description="The first rule that holds decides; an event that none holds for is kept."
    )
    redact: tuple[RedactSettings, ...] = Field(default=(), description="Secrets to black out.")
    redact_common_secrets: bool = Field(
        default=False,
        description="Black out what looks like a password, token or key in a command line, by built-in patterns.",
    )

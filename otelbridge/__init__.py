"""otelbridge: KubeArmor's security events as OTLP log records, with nothing lost on the way."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("otelbridge")

"""otelbridge: KubeArmor's security events as OTLP log records, with nothing lost on the way."""

from __future__ import annotations

__version__: str


def __getattr__(name: str) -> str:
    """`__version__`, read when somebody asks: it takes a while, and until `main` runs Ctrl-C would show a traceback."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415 - see above

    globals()[name] = found = version("otelbridge")
    return found

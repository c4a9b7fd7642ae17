"""Turns the flags of `otelbridge run` into given values; `--set PATH=VALUE` reaches every setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otelbridge.settings.problems import Given, Layer, Problem, did_you_mean, hidden
from otelbridge.settings.text import from_text
from otelbridge.settings.tree import leaves

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
    """What the command line says.

    Args:
        flags: the flag as it is written (one of FLAGS, or `--set`) to its value, or to a list of values.
    """
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


def _add(layer: Layer, known: Mapping[str, object], path: str, text: str, origin: str) -> None:
    leaf = known.get(path)
    if leaf is None:
        cure = did_you_mean(path, known) or "`otelbridge config init` lists every setting."
        layer.problems.append(Problem(path=path, wrong="there is no such setting", cure=cure, origin=origin))
        return
    try:
        layer.given.append(Given(path=path, value=from_text(leaf.annotation, text), origin=origin))  # type: ignore[attr-defined]
    except ValueError as error:
        layer.problems.append(
            Problem(
                path=path,
                value=str(hidden(path, text)),
                wrong=str(error),
                cure="Write JSON, or items separated by commas (key=value for a map).",
                origin=origin,
            )
        )

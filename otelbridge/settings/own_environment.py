"""`OTELBRIDGE_SECTION__KEY` variables become given values; one that means nothing is a problem, not a silent typo."""

from __future__ import annotations

import re
from collections.abc import Mapping

from otelbridge.settings.environment import CONFIG_VARIABLE
from otelbridge.settings.given import Given, Layer, Problem, did_you_mean
from otelbridge.settings.hiding import hidden
from otelbridge.settings.text import from_text
from otelbridge.settings.tree import ENVIRONMENT_PREFIX, leaves

# Kubernetes puts these into every pod of a namespace that has a Service called otelbridge or otelbridge-something:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
)
_SERVICE_LINK_URL = re.compile(r"^(tcp|udp|sctp)://")


def own_environment(variables: Mapping[str, str]) -> Layer:
    """What the bridge's own variables say. An empty variable counts as not set, as everywhere in OpenTelemetry."""
    layer = Layer()
    known = {leaf.environment_name: leaf for leaf in leaves()}
    for name, text in sorted(variables.items()):
        if not name.startswith(ENVIRONMENT_PREFIX) or name == CONFIG_VARIABLE or not text:
            continue
        leaf = known.get(name)
        if leaf is None:
            if not _is_service_link(name, text):
                layer.problems.append(_unknown(name, known))
            continue
        origin = f"environment {name}"
        try:
            layer.given.append(Given(path=leaf.path, value=from_text(leaf.annotation, text), origin=origin))
        except ValueError as error:
            layer.problems.append(
                Problem(
                    path=leaf.path,
                    value=str(hidden(leaf.path, text)),
                    wrong=str(error),
                    cure="Write JSON, or items separated by commas (key=value for a map).",
                    origin=origin,
                )
            )
    return layer


def _is_service_link(name: str, text: str) -> bool:
    return _SERVICE_LINK.search(name) is not None or (
        name.endswith("_PORT") and _SERVICE_LINK_URL.match(text) is not None
    )


def _unknown(name: str, known: Mapping[str, object]) -> Problem:
    return Problem(
        path=name,
        wrong="there is no such setting",
        cure=did_you_mean(name, [*known, CONFIG_VARIABLE]) or "`otelbridge config init` lists every setting.",
        origin="environment",
    )

"""Writes k8s/chart/values.schema.json: the chart's own values, and under `config` the schema of the settings file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from otelbridge.settings.show import schema as settings_schema

FILE = Path(__file__).resolve().parent / "chart" / "values.schema.json"

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
NATURAL: Schema = {"type": "integer", "minimum": 0}
QUANTITY: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
OF_KUBERNETES: Schema = {"type": "object"}
"""Goes into an object as it is; the API server checks it."""


def one_of(*values: str) -> Schema:
    """A word out of some."""
    return {"enum": list(values)}


def section(**keys: Schema) -> Schema:
    """An object that has these keys and takes no other: a typo is refused."""
    return {"type": "object", "additionalProperties": False, "properties": keys}


VALUES: dict[str, Schema] = {
    "mode": one_of("node", "relay"),
    "image": section(
        repository=TEXT,
        tag=TEXT,
        digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
        pullPolicy=one_of("Always", "IfNotPresent", "Never"),
    ),
    "imagePullSecrets": OBJECTS,
    "nameOverride": TEXT,
    "fullnameOverride": TEXT,
    "config": {"$ref": "#/$defs/Settings"},
    "tls": section(enabled=FLAG, secretName=TEXT),
    "persistence": section(
        sizeLimit=QUANTITY, size=QUANTITY, storageClassName=TEXT, accessModes={"type": "array", "items": TEXT}
    ),
    "serviceAccount": section(create=FLAG, name=TEXT, annotations=TEXTS),
    "podAnnotations": TEXTS,
    "podLabels": TEXTS,
    "podSecurityContext": OF_KUBERNETES,
    "securityContext": OF_KUBERNETES,
    "resources": section(requests=OF_KUBERNETES, limits=OF_KUBERNETES, claims=OBJECTS),
    "nodeSelector": TEXTS,
    "tolerations": OBJECTS,
    "affinity": OF_KUBERNETES,
    "priorityClassName": TEXT,
    "terminationGracePeriodSeconds": NATURAL,
    "updateStrategy": OF_KUBERNETES,
    "startupProbe": OF_KUBERNETES,
    "livenessProbe": OF_KUBERNETES,
    "readinessProbe": OF_KUBERNETES,
    "extraEnvs": OBJECTS,
    "extraEnvsFrom": OBJECTS,
    "extraVolumes": OBJECTS,
    "extraVolumeMounts": OBJECTS,
    "podMonitor": section(enabled=FLAG, labels=TEXTS, interval=TEXT, scrapeTimeout=TEXT),
    "prometheusRule": section(enabled=FLAG, labels=TEXTS),
    "dashboards": section(enabled=FLAG, labels=TEXTS, annotations=TEXTS),
    "networkPolicy": section(
        enabled=FLAG,
        prometheusNamespace=TEXT,
        dnsNamespace=TEXT,
        collectorNamespace=TEXT,
        extraIngress=OBJECTS,
        extraEgress=OBJECTS,
    ),
    # Helm's own: where the chart is a part of another one.
    "global": OF_KUBERNETES,
}


def values_schema() -> Schema:
    """The JSON Schema of the chart's values."""
    settings = settings_schema()
    definitions = settings.pop("$defs")
    dialect = settings.pop("$schema")
    return {"$schema": dialect, **section(**VALUES), "$defs": {"Settings": settings, **definitions}}


def text() -> str:
    """The file, as it belongs into the chart."""
    return json.dumps(values_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")

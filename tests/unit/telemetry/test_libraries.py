"""What libraries complain of is told; an exporter's complaint once, with the setting that ends it."""

from __future__ import annotations

import logging

from otelbridge.telemetry.events import Event, LibrarySpoke
from otelbridge.telemetry.log import Libraries


def test_an_exporter_that_complains_with_every_export_is_told_once_with_the_setting_that_ends_it() -> None:
    told: list[Event] = []
    libraries = Libraries(told.append, secrets=lambda: ["Bearer s3cret-token"])
    try:
        exporter = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")
        for number in range(5):
            exporter.error("Failed to export %s to %s, error code: %s", "metrics", "collector:4317", number)
        logging.getLogger("urllib3.connectionpool").warning("something else, which echoes s3cret-token")
    finally:
        libraries.close()
    complaint, other = told
    assert isinstance(complaint, LibrarySpoke)
    assert "telemetry.metrics.exporter: none" in complaint.message
    assert complaint.level == "warning"
    assert isinstance(other, LibrarySpoke)
    assert other.message == "something else, which echoes (secret)"

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import yaml

from docs import tables
from otelbridge.net.secrets import hidden
from otelbridge.setting import settings_of
from otelbridge.settings.show import (
    changed,
    schema,
    shown,
    starter,
)
from otelbridge.settings.tree import Settings, leaves
from tests.unit.settings.loading import loaded


def test_every_setting_is_shown_with_its_origin_and_as_json(tmp_path: Path) -> None:
    found = shown(loaded("gate: {rules: [{name: a, action: drop}]}", {"OTELBRIDGE_STATUS__PORT": "1"}, folder=tmp_path))
    assert list(found) == [leaf.path for leaf in leaves()]
    assert found["status.port"] == {"value": 1, "origin": "environment OTELBRIDGE_STATUS__PORT"}
    assert found["gate.rules"]["value"] == [{"name": "a", "action": "drop"}]
    assert json.loads(json.dumps(found)) == found


def test_only_what_is_no_default_counts_as_changed() -> None:
    assert "status.port" in changed(shown(loaded(flags={"--status-port": "1"})))
    assert "feed.endpoints" not in changed(shown(loaded()))


def test_no_secret_is_ever_shown() -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20hunter2,x-tenant=hunter2",
        "OTELBRIDGE_MAPPING__RESOURCE_ATTRIBUTES": "db.password=hunter2,team=blue",
        "OTELBRIDGE_SEND__ENDPOINT": "https://c:4317",
    }
    found = shown(loaded(environment=variables))
    text = json.dumps(found)
    assert "hunter2" not in text
    assert found["send.headers"]["value"] == {"authorization": "(secret)", "x-tenant": "(secret)"}
    assert found["mapping.resource_attributes"]["value"] == {"db.password": "(secret)", "team": "blue"}
    assert "hunter2" not in repr(loaded(environment=variables).settings.send)


def test_a_password_in_a_url_is_cut_out() -> None:
    assert hidden("send.endpoint", "https://user:hunter2@c:1/x") == "https://(secret)@c:1/x"


def test_the_starter_file_is_valid_and_changes_nothing(tmp_path: Path) -> None:
    assert changed(shown(loaded(starter(), folder=tmp_path))) == changed(shown(loaded()))


def test_every_line_of_the_starter_file_can_be_uncommented(tmp_path: Path) -> None:
    lines = []
    names = {leaf.path.rsplit(".", 1)[-1] for leaf in leaves()}
    for line in starter().splitlines():
        bare = line.replace("# ", "", 1)
        lines.append(bare if bare.strip().split(":")[0] in names and ": " in bare else line)
    found = loaded("\n".join(lines), folder=tmp_path)
    rules = found.settings.gate.rules
    assert rules[0].name == "no-kube-system-logs"
    assert replace(found.settings, gate=Settings().gate).feed == Settings().feed


def test_the_schema_names_every_setting_and_forbids_others() -> None:
    found = schema()
    assert found["additionalProperties"] is False
    assert set(found["properties"]) == set(settings_of(Settings))
    retry = found["$defs"]["RetrySettings"]["properties"]["max_seconds"]
    assert retry["anyOf"][0]["type"] == "number"
    assert "env:" in retry["anyOf"][1]["pattern"]


def test_the_tables_have_a_row_per_setting_and_per_variable() -> None:
    table = tables.settings()
    assert len(table.splitlines()) == 2 + len(list(leaves()))
    assert "| `queue.max_bytes` | `OTELBRIDGE_QUEUE__MAX_BYTES` | `536870912` (512 MiB) |" in table
    assert "`OTEL_EXPORTER_OTLP_LOGS_HEADERS`" in tables.standard_variables()


def test_every_setting_has_a_description() -> None:
    assert [leaf.path for leaf in leaves() if not leaf.setting.description.endswith((".", ")"))] == []


def test_the_starter_is_yaml_for_other_readers_too() -> None:
    assert set(yaml.safe_load(starter())) == set(settings_of(Settings))

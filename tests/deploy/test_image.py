from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from docs.licences import needed
from otelbridge.settings.tree import BridgeSettings
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.deploy.image import Image, built_image
from tests.oracle import Publisher
from tests.peers.presence import ROOT
from tests.peers.process import answers_ok, free_ports
from tests.waiting import eventually

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

LIST_DISTRIBUTIONS = (
    "import importlib.metadata as m, json; print(json.dumps(sorted(d.name for d in m.distributions())))"
)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with built_image() as built:
        yield built


def test_it_starts_as_its_own_user_on_a_read_only_root_without_a_shell(image: Image) -> None:
    done = image.run("version")
    assert done.returncode == 0, done.stderr
    assert version("otelbridge") in done.stdout


def test_the_jail_is_one(image: Image) -> None:
    script = (
        "import os\n"
        "assert os.getuid() == os.getgid() == 65532 and not os.getgroups(), os.getgroups()\n"
        "open('/var/lib/otelbridge/queue', 'w').close()\n"
        "for attempt in (lambda: open('/opt/otelbridge/x', 'w'), lambda: os.execv('/bin/sh', ['sh'])):\n"
        "    try: attempt()\n"
        "    except OSError: continue\n"
        "    raise SystemExit('it could')\n"
    )
    done = image.run_program(["/opt/otelbridge/bin/python", "-c", script])
    assert done.returncode == 0, done.stderr


def test_settings_are_checked_in_there_as_anywhere(image: Image) -> None:
    done = image.run("config", "check")
    assert done.returncode == 0, done.stderr


def test_a_wrong_command_line_ends_with_2(image: Image) -> None:
    assert image.run("no-such-command").returncode == 2


def test_it_delivers_an_event_and_ends_with_0_on_sigterm(image: Image, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with Relay() as relay, OtlpEndpoint(http_port=None) as endpoint:
        settings = {
            "OTELBRIDGE_FEED__ENDPOINTS": relay.endpoint,
            "OTELBRIDGE_SEND__ENDPOINT": endpoint.grpc_endpoint,
            "OTELBRIDGE_STATUS__PORT": str(port),
            "OTELBRIDGE_TELEMETRY__DISABLED": "true",
        }
        with image.started(env=settings, output=tmp_path / "output") as running:
            eventually(
                lambda: answers_ok(f"http://127.0.0.1:{port}/readyz"),
                within_seconds=60,
                why=(tmp_path / "output").read_text(encoding="utf-8") or "it is ready",
            )
            relay.wait_for_subscribers(1)
            Publisher(relay, per_second=1000).publish(10)
            assert len(endpoint.wait_for_records(10, within=20)) == 10
            assert running.end() == 0, (tmp_path / "output").read_text(encoding="utf-8")
    assert "fastpath=true" in (tmp_path / "output").read_text(encoding="utf-8"), "it is compiled"


def documented_docker_run() -> argparse.Namespace:
    """The guide's line, by the names of `docker run`'s options: none of them is unknown, and none has no value."""
    guide = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^docker run (.*?)\n```", guide, re.DOTALL | re.MULTILINE)
    docker = argparse.ArgumentParser(allow_abbrev=False)
    for option in ("--name", "--restart", "--network", "--memory"):
        docker.add_argument(option, required=True)
    for option in ("--cap-drop", "--security-opt", "--volume"):
        docker.add_argument(option, action="append", required=True)
    docker.add_argument("--stop-timeout", type=int, required=True)
    for option in ("--detach", "--read-only"):
        docker.add_argument(option, action="store_true")
    docker.add_argument("image")
    docker.add_argument("command", nargs=argparse.REMAINDER)
    return docker.parse_args(shlex.split(line.replace("\\\n", " ")))


def test_the_guides_docker_line_runs_it(image: Image, tmp_path: Path) -> None:
    asked = documented_docker_run()
    assert (asked.read_only, asked.cap_drop, asked.security_opt) == (True, ["ALL"], ["no-new-privileges"])
    assert asked.network == "host", "the jail shares the network, too"
    assert asked.stop_timeout > BridgeSettings().drain_seconds
    volumes = dict(volume.split(":", 1) for volume in asked.volume)
    assert volumes["otelbridge"] in image.config["Volumes"]
    assert volumes["/etc/otelbridge"] == "/etc/otelbridge:ro"
    (port,) = free_ports(1)
    settings = tmp_path / "etc"
    settings.mkdir(mode=0o755)
    settings.parent.chmod(0o755)
    with Relay() as relay, OtlpEndpoint(http_port=None) as endpoint:
        written = {
            "feed": {"endpoints": [relay.endpoint]},
            "send": {"endpoint": endpoint.grpc_endpoint},
            "mapping": {"kubernetes": False},
            "status": {"port": port},
        }
        (settings / "otelbridge.yaml").write_text(json.dumps(written), encoding="utf-8")
        output = tmp_path / "output"
        with image.started(asked.command, env={}, output=output, settings_folder=str(settings)) as running:
            eventually(lambda: answers_ok(f"http://127.0.0.1:{port}/readyz"), within_seconds=60, why="it is ready")
            relay.wait_for_subscribers(1)
            Publisher(relay, per_second=1000).publish(10)
            assert len(endpoint.wait_for_records(10, within=20)) >= 10
            status = Path(f"/proc/{running.pid()}/status").read_text(encoding="ascii")
            assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), "no capability is left"
            (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
            assert int(peak) * 1024 < int(asked.memory.removesuffix("m")) * 1024 * 1024
            assert running.end() == 0, output.read_text(encoding="utf-8")


def test_it_holds_what_the_bridge_needs_and_no_more(image: Image) -> None:
    done = image.run_program(["/opt/otelbridge/bin/python", "-c", LIST_DISTRIBUTIONS])
    inside = {canonicalize_name(name) for name in json.loads(done.stdout)}
    assert inside == needed()


def test_it_says_what_it_holds(image: Image) -> None:
    bill = json.loads((image.root / "opt" / "otelbridge" / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "otelbridge")
    done = image.run_program(["/opt/otelbridge/bin/python", "-c", LIST_DISTRIBUTIONS])
    inside = {canonicalize_name(name) for name in json.loads(done.stdout)}
    assert {canonicalize_name(part["name"]) for part in bill["components"]} | {"otelbridge"} == inside


def test_its_configuration_is_the_one_that_the_dockerfile_says(image: Image) -> None:
    config = image.config
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/opt/otelbridge/bin/otelbridge"]
    assert config["Cmd"] == ["run"]
    assert config["StopSignal"] == "SIGTERM"
    assert set(config["Volumes"]) == {"/var/lib/otelbridge"}
    assert set(config["ExposedPorts"]) == {"32799/tcp"}
    assert config["Labels"]["org.opencontainers.image.title"] == "otelbridge"


def test_nothing_in_it_belongs_to_the_user_but_the_folder_of_the_queue(image: Image) -> None:
    product = image.root / "opt" / "otelbridge"
    assert not [path for path in product.rglob("*") if path.lstat().st_uid != 0]
    assert (image.root / "var" / "lib" / "otelbridge").stat().st_uid == 65532


def test_nothing_is_compiled_at_a_start(image: Image) -> None:
    done = image.run_program(
        ["/opt/otelbridge/bin/python", "-v", "-c", "import otelbridge.cli.main, otelbridge.cli.service"]
    )
    assert done.returncode == 0, done.stderr
    compiled = [line for line in done.stderr.splitlines() if line.startswith("# code object from")]
    assert [line for line in compiled if not line.endswith(".pyc'")] == []
    assert any("/usr/lib/python3" in line for line in compiled), "Debian's own modules come from byte code, too"

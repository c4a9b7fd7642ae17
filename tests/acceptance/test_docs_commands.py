"""Every command that the documentation names: run here, or by the test named here, or it is said why it cannot be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.peers.bridge import running_bridge

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).resolve().parents[2]
PAGES = (*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("k8s/*/README.md"), ROOT / "benchmarks" / "README.md")
PROGRAMS = (
    *("otelbridge", "kubectl", "docker", "helm", "pip", "pipx", "make", "cosign", "systemctl", "python", "python3"),
    *("cp", "mkdir", "curl", "journalctl", "/opt/otelbridge/bin/otelbridge", "/opt/otelbridge/bin/pip"),
)
GUIDES = "tests/acceptance/test_docs_run.py"
CLUSTER = "tests/cluster/test_install_guide.py"
ELSEWHERE = {
    r"otelbridge simulate( |$)|otelbridge run |otelbridge demo|make demo": GUIDES,
    r"otelbridge (tail --output|tail --from-bridge http|doctor --queue|explain events)": GUIDES,
    r"helm (install|upgrade|uninstall)( |$)|kubectl (apply|delete)( |$)": CLUSTER,
    r"kubectl -n kubearmor get secret|kubectl .*(rollout status|get pods)|kubectl annotate": CLUSTER,
    r"docker build -t|docker run ": "tests/deploy/test_image.py",
    r"python3 -m venv|/opt/otelbridge/bin/(pip|otelbridge config)|mkdir -p /etc": "tests/deploy/test_wheel.py",
    r"pip (wheel|install)|pipx install|python -m (build|twine)": "tests/deploy/test_wheel.py",
    r"cp packaging|systemctl|/opt/otelbridge/bin/otelbridge ledger": "tests/deploy/test_unit_running.py",
    r"make (test|lint|lint test|sbom|collector)$|python -m benchmarks\.programs": ".ci/run",
    r"python -m benchmarks\.guard": ".ci/run",
    r"kubectl get ksp": "tests/acceptance/test_coverage.py",
    r"otelbridge queue replay .*--kind": "tests/acceptance/test_flood.py",
}
"""Commands, as regular expressions, and what runs them."""
NOWHERE = {
    r"docker push|docker buildx|cosign |helm push": "needs a registry, and an identity there",
    r"helm package --sign": "needs the maintainer's key",
    r"kubectl .*(exec|port-forward|logs)": "needs a kubelet",
    r"make (torture|bench)|python -m benchmarks\.(mapping|compression)_cost": "takes hours, or a machine of its own",
    r"python -m benchmarks\.(new_events|process_traces)": "needs a machine of its own",
}
SERVES = re.compile(r"otelbridge (config|queue)$")
"""Groups of commands: their help is what a name alone can be run for."""
COMPLETED = {
    r"(otelbridge tail --from-bridge)$": r"\1 URL",
    r"(otelbridge tail.*)": r"\1 --limit 1",
    r"(otelbridge explain) FILE": r"\1 EVENTS",
    r"(otelbridge coverage)( --url http://127.0.0.1:32799)?": r"\1 --url URL",
    r"(otelbridge ledger --url) http://localhost:32799": r"\1 URL",
}


def commands() -> list[tuple[str, str]]:
    """Page and command: the lines of shell blocks, and what stands in a sentence as code."""
    found: dict[tuple[str, str], None] = {}
    for page in sorted(PAGES):
        text, name = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
        lines = [
            line.split("  #")[0].strip()
            for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
            for line in re.sub(r"\\\n\s*", " ", block).splitlines()
        ]
        sentences = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        lines += [code for code in re.findall(r"`([^`\n]+)`", sentences) if " " in code and "=" not in code.split()[0]]
        found |= {(name, line): None for line in lines if line.split()[:1] and line.split()[0] in PROGRAMS}
    return list(found)


def matching(table: dict[str, str], command: str) -> str | None:
    return next((what for pattern, what in table.items() if re.match(pattern, command)), None)


OURS = sorted(
    {
        command
        for _, command in commands()
        if command.startswith(("otelbridge ", "python -c ")) and not matching(ELSEWHERE, command)
    }
)


@pytest.mark.parametrize(("page", "command"), commands(), ids=lambda text: text)
def test_each_command_is_run_somewhere_or_it_is_said_why_not(page: str, command: str) -> None:
    if command in OURS or matching(NOWHERE, command):
        return
    where = matching(ELSEWHERE, command)
    assert where, f"{page} names a command that nothing runs"
    assert (ROOT / where).exists()


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the documentation's placeholders stand for, while a bridge runs and events flow."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "home").mkdir()
    stop = threading.Event()
    with Relay() as relay, OtlpEndpoint() as endpoint:
        feed, status = {"endpoints": [relay.endpoint]}, {"show_events": 100}
        telemetry = {"disabled": True, "coverage": True}
        send = {"endpoint": endpoint.grpc_endpoint}
        with running_bridge(folder, feed=feed, status=status, send=send, telemetry=telemetry) as bridge:
            bridge.wait_until_watching()

            def publish() -> None:
                while not stop.wait(0.05):
                    relay.publish(Stream.ALERTS, pb.Alert(NamespaceName="shop", PolicyName="p", Action="Block"))

            publisher = threading.Thread(target=publish, name="publisher")
            publisher.start()
            (folder / "otelbridge.yaml").write_bytes((folder / "bridge.yaml").read_bytes())
            yield {
                "FILE": str(folder / "bridge.yaml"),
                "EVENTS": str(ROOT / "tests" / "samples" / "alerts.json"),
                "URL": bridge.url(""),
                "FOLDER": str(folder),
            }
            stop.set()
            publisher.join()


@pytest.mark.parametrize("command", OURS)
def test_our_own_commands_do_what_they_are_named_for(words: dict[str, str], command: str) -> None:
    line = f"{command} --help" if SERVES.fullmatch(command) else command
    for pattern, whole in COMPLETED.items():
        line = re.sub(f"^{pattern}$", whole, line)
    for word, value in words.items():
        line = re.sub(rf"\b{word}\b", value, line)
    done = subprocess.run(
        ["/bin/bash", "-c", f"{line}\nexit $?"],  # bash stays, as in a terminal: completion asks who the parent is
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=words["FOLDER"],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OTELBRIDGE_CONFIG": words["FILE"],
            "HOME": f"{words['FOLDER']}/home",
        },
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr}"

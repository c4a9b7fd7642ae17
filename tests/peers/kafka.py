"""A genuine Apache Kafka: broker and controller in one process on the loopback address, and its own tools."""

from __future__ import annotations

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.presence import ROOT, on_path, required, required_jars
from tests.peers.process import PeerProcess, accepts, free_ports

JARS = ROOT / "build" / "jars" / "kafka"
TOOL_SECONDS = 120
CONSUME_MILLIS = 60_000


class Kafka:
    """One that runs."""

    def __init__(self, process: PeerProcess, *, java: Path, broker: str) -> None:
        self.process, self.broker, self._java = process, broker, java

    def create_topic(self, topic: str, *, partitions: int) -> None:
        """A topic with one replica, and Kafka's own limits."""
        self._tool("org.apache.kafka.tools.TopicCommand", "--create", "--topic", topic, "--partitions", str(partitions))

    def messages(self, topic: str) -> Counter[tuple[str, str]]:
        """How many messages there are of each partition and key."""
        offsets = self._tool("org.apache.kafka.tools.GetOffsetShell", "--topic", topic)
        messages = sum(int(line.rpartition(":")[2]) for line in offsets.split())
        printed = self._tool(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            *("--topic", topic, "--from-beginning"),
            *("--max-messages", str(messages), "--timeout-ms", str(CONSUME_MILLIS)),
            *("--formatter-property", "print.partition=true"),
            *("--formatter-property", "print.key=true"),
            *("--formatter-property", "print.value=false"),
        )
        lines = (line.split("\t") for line in printed.splitlines() if line.startswith("Partition:"))
        return Counter((partition, key) for partition, key in lines)

    def _tool(self, tool: str, *arguments: str) -> str:
        """What one of Kafka's tools prints."""
        argv = [str(self._java), "-Xmx128m", "-cp", f"{JARS}/*", tool, "--bootstrap-server", self.broker, *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=TOOL_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextmanager
def start_kafka(folder: Path) -> Iterator[Kafka]:
    """A running Kafka, ended with the context; the test ends here when it was not fetched."""
    java = required(on_path("java"), name="Java", cure="apt-get install default-jre-headless")
    jars = required_jars(JARS, name="the genuine Kafka", cure="tests/peers/jars/assemble kafka")
    port, controller_port = free_ports(2)
    properties = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": folder / "kafka",
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
    }
    config = folder / "kafka.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in properties.items()), encoding="utf-8")
    program = [str(java), "-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{jars}/*"]
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    subprocess.run(
        [*program, "kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", str(config)],
        check=True,
        capture_output=True,
        timeout=TOOL_SECONDS,
    )
    process = PeerProcess(
        [*program, "kafka.Kafka", str(config)],
        output=folder / "kafka.log",
        is_up=lambda: accepts(port),
        start_seconds=60,
    )
    process.start()
    try:
        yield Kafka(process, java=java, broker=f"127.0.0.1:{port}")
    finally:
        process.kill()

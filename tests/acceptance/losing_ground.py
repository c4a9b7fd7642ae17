"""A bridge under load whose queue's folder is deleted, replaced, renamed, made read-only or filled, and cured again."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, gap_records, numbers_of
from tests.peers.bridge import COMMAND, BridgeProcess, running_bridge
from tests.peers.small_disk import mounted
from tests.waiting import eventually

EVENTS_PER_SECOND = 1_000
HELD_SECONDS = 2
"""Of the load: the log repeats a line five times in ten seconds at most."""
MEET_SECONDS = 15.0
RECOVER_SECONDS = 15.0
DISK_BYTES = 64 * 1024 * 1024
TOLD = "The disk does not accept writes"

Act = Callable[[Path], AbstractContextManager[None]]
"""Does something to a folder; at the end of the context it is cured, where it does not cure itself."""


def remove(folder: Path) -> None:
    """Deletes a folder with its files, those that the bridge itself deletes meanwhile among them."""
    while True:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            if folder.exists():
                continue
        return


@contextmanager
def deleted(folder: Path) -> Iterator[None]:
    remove(folder)
    yield


@contextmanager
def emptied(folder: Path) -> Iterator[None]:
    for file in folder.iterdir():
        file.unlink(missing_ok=True)
    yield


@contextmanager
def renamed(folder: Path) -> Iterator[None]:
    aside = folder.with_name(f"moved-{time.monotonic_ns()}")
    folder.rename(aside)
    yield
    remove(aside)


@contextmanager
def replaced_by_a_file(folder: Path) -> Iterator[None]:
    aside = folder.with_name(f"moved-{time.monotonic_ns()}")
    folder.rename(aside)
    folder.touch()
    yield
    folder.unlink()
    remove(aside)


@contextmanager
def replaced_by_a_folder(folder: Path) -> Iterator[None]:
    aside = folder.with_name(f"moved-{time.monotonic_ns()}")
    folder.rename(aside)
    folder.mkdir()
    yield
    remove(aside)


@contextmanager
def replaced_by_a_link(folder: Path) -> Iterator[None]:
    """To a folder that is empty."""
    aside = folder.with_name(f"moved-{time.monotonic_ns()}")
    other = folder.with_name(f"other-{time.monotonic_ns()}")
    folder.rename(aside)
    other.mkdir()
    folder.symlink_to(other)
    yield
    folder.unlink()
    remove(aside)
    remove(other)


@contextmanager
def forbidden(folder: Path) -> Iterator[None]:
    folder.chmod(0)
    yield
    folder.chmod(0o700)


@contextmanager
def mounted_over(folder: Path) -> Iterator[None]:
    """By an empty volume, which is taken away again: the old files are back, which are not those in use any more."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
    yield
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
    yield
    subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    filler = folder.parent / "filler"
    (folder / "queue.reserve").unlink(missing_ok=True)  # what the queue has laid by is taken too
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    yield
    filler.unlink()


ACTS: dict[str, Act] = {
    act.__name__: act
    for act in (
        deleted,
        emptied,
        renamed,
        replaced_by_a_folder,
        replaced_by_a_file,
        replaced_by_a_link,
        mounted_over,
        read_only,
        forbidden,
        filled,
    )
}
AS_ANY_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Root without its right to enter what is closed to it; the files are its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survived:
    """What became of one act."""

    act: str
    said_seconds: float
    """From the act to the line in the log."""
    recovered_seconds: float
    """From the cure to: not degraded, nothing waits in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One life through all acts."""

    acts: list[Survived]
    published: int
    lost: int
    duplicates: int
    corruption_gaps: int
    balanced: bool
    exit_code: int | None


def lose_ground(place: Path, acts: dict[str, Act], *, per_second: int = EVENTS_PER_SECOND) -> Life:
    """One life of a bridge through the acts, each while a backlog is held and more comes in."""
    with (
        mounted(place / "disk", DISK_BYTES) as disk,
        Relay() as relay,
        OtlpEndpoint() as endpoint,
        running_bridge(
            place / "bridge",
            (*AS_ANY_USER, str(COMMAND)),
            queue={"directory": str(disk / "queue")},
            feed={"endpoints": [relay.endpoint]},
            send={
                "endpoint": endpoint.grpc_endpoint,
                "replay_rate_factor": 0,
                "retry_initial_seconds": 0.1,
                "retry_max_seconds": 0.2,
            },
        ) as bridge,
    ):
        bridge.wait_until_watching()
        publisher = Publisher(relay, per_second=per_second)
        stage = Stage(disk / "queue", bridge, endpoint, publisher, HELD_SECONDS * per_second)
        survived = [stage.survive(name, act) for name, act in acts.items()]
        relay.wait_until_sent()
        bridge.wait_until_delivered()
        balanced = bridge.balances()
        code = bridge.stop()
        records = endpoint.log_records()
    arrived = numbers_of(records)
    expected = Counter(range(len(publisher.published)))
    return Life(
        acts=survived,
        published=len(publisher.published),
        lost=len(expected - arrived),
        duplicates=sum((arrived - expected).values()),
        corruption_gaps=sum(gap["otelbridge.gap.cause"] == "corruption" for gap in gap_records(records)),
        balanced=balanced,
        exit_code=code,
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """A running bridge, its endpoint and its queue's folder."""

    folder: Path
    bridge: BridgeProcess
    endpoint: OtlpEndpoint
    publisher: Publisher
    backlog: int
    """Records."""

    def survive(self, name: str, act: Act) -> Survived:
        """A backlog is held and more comes in, the act is done and said, exports go on, it is cured and over."""
        self.bridge.wait_until_delivered()
        self.endpoint.stop()
        self.publisher.publish(self.backlog)
        eventually(lambda: self.bridge.held() >= self.backlog, why="a backlog is on disk")
        before = self.told()
        with self.publisher.going_on():
            with act(self.folder):
                acted = time.monotonic()
                eventually(
                    lambda: self.told() > before or self.degraded(),
                    within_seconds=MEET_SECONDS,
                    why=f"{name}: it is said",
                )
                said = time.monotonic() - acted
                exported = self.endpoint.counts().records
                self.endpoint.start()
                eventually(
                    lambda: self.endpoint.counts().records >= exported + self.backlog,
                    within_seconds=MEET_SECONDS,
                    why=f"{name}: exports go on",
                )
            cured = time.monotonic()
            eventually(lambda: not self.degraded(), within_seconds=RECOVER_SECONDS, why=f"{name}: it recovers")
            recovered = time.monotonic() - cured
        return Survived(act=name, said_seconds=round(said, 2), recovered_seconds=round(recovered, 2))

    def told(self) -> int:
        return self.bridge.process.output().count(TOLD)

    def degraded(self) -> bool:
        return bool(self.bridge.status()["queue"]["degraded"])

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from otelbridge.net import files
from otelbridge.net.files import MOST_BYTES, read_bounded
from otelbridge.settings.load import load
from otelbridge.settings.tree import SettingsError

FILE_SETTINGS = (
    "send.token_file",
    "send.headers_file",
    "send.tls.ca_file",
    "feed.tls.ca_file",
    "telemetry.traces.ca_file",
)


def strange_files(folder: Path) -> dict[str, Path]:
    """Files that nobody should name in the settings."""
    os.mkfifo(folder / "pipe")
    (folder / "sparse").touch()
    os.truncate(folder / "sparse", 1 << 30)
    (folder / "loop").symlink_to(folder / "loop")
    return {
        "a device without end": Path("/dev/zero"),
        "a pipe without a writer": folder / "pipe",
        "a folder": folder,
        "the memory of the process": Path("/proc/self/mem"),
        "a gibibyte of nothing": folder / "sparse",
        "a link to itself": folder / "loop",
        "a name with a zero byte": Path("a\0b"),
        "a name with half a character": Path("a\ud800b"),
        "a name that is too long": Path("x" * 5000),
    }


STRANGE = (
    "a device without end", "a pipe without a writer", "a folder", "the memory of the process", "a gibibyte of nothing",
    "a link to itself", "a name with a zero byte", "a name with half a character", "a name that is too long",
)  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_file_is_read_to_a_bound_or_refused(kind: str, tmp_path: Path) -> None:
    path = strange_files(tmp_path)[kind]
    if kind == "a pipe without a writer":
        assert read_bounded(path) == b""
        return
    with pytest.raises(OSError, match=r"."):
        read_bounded(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", STRANGE)
def test_every_setting_that_names_a_file_says_what_is_wrong_with_a_strange_one(kind: str, tmp_path: Path) -> None:
    path = strange_files(tmp_path)[kind]
    for setting in FILE_SETTINGS:
        with pytest.raises(SettingsError) as refused:
            load(environment={}, flags={"--set": [f"{setting}={path}", "telemetry.traces.exporter=otlp"]})
        assert setting.rpartition(".")[2] in str(refused.value)
    if kind != "a folder":
        with pytest.raises(SettingsError):
            load(environment={}, flags={"--set": [f"queue.directory={path}/queue"]})
    if kind != "a pipe without a writer":  # which is an empty file
        with pytest.raises(SettingsError):
            load(file=path, environment={})


def test_a_pipe_is_read_to_its_end_however_slowly_it_is_written(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    end = Path(f"/proc/self/fd/{reading}")

    def write() -> None:
        for piece in (b"feed:\n", b"  endpoints: [a:1]\n"):
            os.write(writing, piece)
        os.close(writing)

    writer = threading.Timer(0.05, write)
    writer.start()
    assert load(file=end, environment={}).settings.feed.endpoints == ("a:1",)
    writer.join()
    os.close(reading)


def test_a_pipe_that_brings_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_SECONDS", 0.05)
    reading, writing = os.pipe()
    with pytest.raises(TimeoutError, match="brings nothing"):
        read_bounded(Path(f"/proc/self/fd/{reading}"))
    os.close(reading)
    os.close(writing)


def test_a_file_of_the_largest_size_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * MOST_BYTES)
    assert len(read_bounded(file)) == MOST_BYTES

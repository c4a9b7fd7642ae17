from __future__ import annotations

import os
from pathlib import Path

from otelbridge.queue.dead_letters import Command, collect, leave


def test_commands_are_collected_in_order_and_once(tmp_path: Path) -> None:
    leave(tmp_path, "resend", [3, 1])
    leave(tmp_path, "discard", [2])
    expected = [Command(verb="resend", numbers=(3, 1)), Command(verb="discard", numbers=(2,))]
    assert list(collect(tmp_path)) == expected
    assert list(collect(tmp_path)) == []
    assert list(collect(tmp_path / "missing")) == []


def test_files_that_hold_no_command_stop_nothing(tmp_path: Path) -> None:
    texts = [
        "{",
        "[" * 100_000,
        "null",
        '{"verb": "format", "numbers": [1]}',
        '{"verb": ["resend"], "numbers": []}',
        '{"verb": "resend", "numbers": [1e999]}',
        '{"verb": "resend", "numbers": ' + "9" * 5_000 + "}",
        "\\udc80",
        "x" * 2_000_000,
    ]
    for n, text in enumerate(texts):
        (tmp_path / f"command-{n}.json").write_text(text)
    (tmp_path / "command-a-link.json").symlink_to("/dev/zero")
    (tmp_path / "command-folder.json").mkdir()
    os.mkfifo(tmp_path / "command-pipe.json")
    leave(tmp_path, "resend", [7, 2**63, -1, 0])
    assert list(collect(tmp_path)) == [Command(verb="resend", numbers=(7,))]
    assert not [file for file in tmp_path.iterdir() if file.is_file() and not file.is_symlink()]

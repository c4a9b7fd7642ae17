"""A genuine systemd as process 1 of its own namespaces, over a throw-away copy of this machine's root."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.peers.presence import ROOT, required
from tests.waiting import eventually

RUN_SECONDS = 60
HIERARCHIES = ("systemd", "unified", "memory", "pids", "devices")
"""Of the older control groups; the newer have one hierarchy."""

ENTER = """
set -e
for group in $GROUPS_; do mkdir -p "$group"; echo $$ >"$group/cgroup.procs"; done
exec unshare --mount --pid --fork --ipc --uts --net --cgroup --kill-child /bin/sh -ec "$BOOT" boot
"""
"""Its own control groups first: systemd takes charge of all that are below the ones that it finds itself in."""

BOOT = """
mount --make-rprivate /
mount -t tmpfs tmpfs "$WORK"
mkdir -p "$WORK/upper" "$WORK/work" "$WORK/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"
root=$WORK/root
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/out" "$root/opt/python" "$root/opt/packages" "$root/opt/checkout"
mount --bind "$OUT" "$root/out"
mount --bind "$PYTHON" "$root/opt/python"
mount --bind "$PACKAGES" "$root/opt/packages"
mount --bind "$CHECKOUT" "$root/opt/checkout"
cp -r "$FILES/." "$root/"
mount --make-rshared "$root"
ip link set lo up
exec env -i container=test PATH="$PATH" chroot "$root" /lib/systemd/systemd --system --unit=script.service \
    --log-target=kmsg --show-status=no
"""

SCRIPT_UNIT = """
[Unit]
DefaultDependencies=no
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
WorkingDirectory=/opt/checkout
ExecStart=/bin/sh -ex /script
StandardOutput=append:/out/script
StandardError=append:/out/script
"""

PROGRAM = """#!/usr/bin/env -S LD_LIBRARY_PATH=/opt/python/lib /opt/python/bin/python3 -I
import sys
sys.path[:0] = ["/opt/checkout", "/opt/packages"]
from otelbridge.cli.main import main
sys.exit(main())
"""
"""Where the guide installs it, without installing: this checkout, with the packages that the tests run with."""


def run_under_systemd(
    folder: Path, *, script: str, files: Mapping[str, str], secrets: Mapping[str, str]
) -> dict[str, str]:
    """Boots, runs a script as root in the checkout with `/opt/otelbridge/bin/otelbridge` in place, and shuts down.

    Args:
        folder: for its files; it must exist.
        script: for /bin/sh; it ends at the first command that fails.
        files: absolute paths and what they hold; readable by all, as an editor writes them.
        secrets: the same, readable by root only.

    Returns:
        What the script and the units wrote to /out, by the names of the files.
    """
    found = shutil.which("systemctl")
    required(Path(found) if found else None, name="systemd", cure="apt-get install systemd")
    required(Path("/bin/sh") if os.geteuid() == 0 else None, name="root", cure="namespaces need it")
    out, work, tree = folder / "out", folder / "work", folder / "files"
    for path in (out, work, tree):
        path.mkdir()
    written = {**files, "/script": script, "/etc/systemd/system/script.service": SCRIPT_UNIT}
    for name, content in written.items():
        _write(tree / name.lstrip("/"), content, mode=0o644)
    for name, content in secrets.items():
        _write(tree / name.lstrip("/"), content, mode=0o600)
    _write(tree / "opt/otelbridge/bin/otelbridge", PROGRAM, mode=0o755)
    (tree / "etc/systemd/system/network-online.target").symlink_to("/dev/null")
    groups = _control_groups(f"otelbridge-{os.getpid()}")
    environment = {
        "PATH": os.environ["PATH"],
        "GROUPS_": " ".join(map(str, groups)),
        "BOOT": BOOT,
        "WORK": str(work),
        "OUT": str(out),
        "FILES": str(tree),
        "PYTHON": sys.base_prefix,
        "PACKAGES": sysconfig.get_path("purelib"),
        "CHECKOUT": str(ROOT),
    }
    done = subprocess.Popen(["/bin/sh", "-c", ENTER], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, errors = done.communicate(timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired:
        done.kill()  # and with it, process 1 of the namespaces and all in them
        _, errors = done.communicate()
        errors += b"\nit did not shut down in time"
    finally:
        for group in groups:
            eventually(partial(_removed, group), within_seconds=RUN_SECONDS, why=f"{group} is empty")
    said = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in out.iterdir()}
    assert done.returncode == 0, f"{errors.decode()}\n{said}"
    return said


def _control_groups(name: str) -> list[Path]:
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return [top / name]
    return [top / hierarchy / name for hierarchy in HIERARCHIES if (top / hierarchy).is_dir()]


def _removed(group: Path) -> bool:
    """Whether a control group and those below it are gone; what is killed leaves them a moment later."""
    try:
        for below in sorted(group.rglob("*/"), reverse=True):
            below.rmdir()
        group.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _write(path: Path, content: str, *, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)

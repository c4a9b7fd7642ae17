"""Builds the image of the Dockerfile without a container engine, and starts what came out as a kubelet would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.presence import ROOT, required

RELEASE = "bookworm"
"""Debian 12, which the Dockerfile's own bases are."""

TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
"""The machine's certificates go into the base: a mirror that only they vouch for is trusted in there too."""

TOOLS = ("buildah", "debootstrap", "unshare", "setpriv", "chroot")
BUILD_SECONDS = 600
RUN_SECONDS = 60

JAIL = """
set -e
root=$1; shift
mkdir -p "$root/etc/otelbridge"
mount --make-rprivate /
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
if [ -n "$SETTINGS_FOLDER" ]; then mount --bind -o ro "$SETTINGS_FOLDER" "$root/etc/otelbridge"; fi
unset SETTINGS_FOLDER
mount -t tmpfs -o "uid=$USER_ID,gid=$USER_ID,mode=0700" state "$root/var/lib/otelbridge"
mount -t proc proc "$root/proc"
for shell in "$root"/usr/bin/dash "$root"/usr/bin/bash; do mount --bind /dev/null "$shell"; done
exec setpriv --no-new-privs chroot --userspec="$USER_ID:$USER_ID" --groups= "$root" "$@"
"""
"""Read-only root, one writable folder, the image's user, no way to more privileges, no shell that could be started."""


@dataclass(frozen=True, slots=True)
class Started:
    """A program in the jail, seen from outside: the process that made the namespaces, and waits."""

    outer: subprocess.Popen[bytes]

    def pid(self) -> int:
        """Of the program itself; 0 while there is none."""
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text(encoding="ascii").split()
        return int(children[0]) if children else 0

    def end(self) -> int:
        """SIGTERM to the program, as a kubelet sends it; its exit code."""
        os.kill(self.pid(), signal.SIGTERM)
        return self.outer.wait(RUN_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image: its files, and its configuration as OCI writes it."""

    root: Path
    config: dict[str, Any]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the entry point with arguments in the jail, with the image's environment and nothing else."""
        return self.run_program([*self.config["Entrypoint"], *arguments])

    def run_program(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs any program of the image in the jail."""
        return subprocess.run(
            self.jailed(argv),
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
        )

    @contextmanager
    def started(
        self,
        arguments: Sequence[str] = (),
        *,
        env: Mapping[str, str],
        output: Path,
        settings_folder: str = "",
    ) -> Iterator[Started]:
        """The entry point, running in the jail as the process 1 of its namespace; killed with the context.

        Args:
            arguments: the command; none is the image's own.
            env: beside the image's.
            output: where stdout and stderr go.
            settings_folder: mounted as /etc/otelbridge, read-only.
        """
        argv = self.jailed([*self.config["Entrypoint"], *(arguments or self.config["Cmd"])])
        env = {**env, "SETTINGS_FOLDER": settings_folder}
        with (
            output.open("wb") as sink,
            subprocess.Popen(
                argv, env={**self.environment(), **env}, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            ) as outer,
        ):
            try:
                yield Started(outer)
            finally:
                outer.kill()

    def environment(self) -> dict[str, str]:
        """What the image sets, and the user's number for the jail."""
        return {**dict(line.split("=", 1) for line in self.config["Env"]), "USER_ID": self.config["User"].split(":")[0]}

    def jailed(self, argv: Sequence[str]) -> list[str]:
        """The command line that starts a program of the image in the jail; to be run as root."""
        namespaces = ["/usr/bin/unshare", "--mount", "--pid", "--fork", "--kill-child"]
        return [*namespaces, "/bin/sh", "-c", JAIL, "jail", str(self.root), *argv]


@contextmanager
def built_image() -> Iterator[Image]:
    """The image, built from this checkout; its files go with the context."""
    for tool in TOOLS:
        found = shutil.which(tool)
        required(Path(found) if found else None, name=tool, cure="apt-get install buildah debootstrap util-linux")
    required(Path("/bin/sh") if os.geteuid() == 0 else None, name="root", cure="mounts and chroot need it")
    folder = Path(tempfile.mkdtemp(prefix="otelbridge-image-"))
    store = ["--root", str(folder / "store"), "--runroot", str(folder / "run")]
    try:
        yield _build(folder, store)
    finally:
        _do(["buildah", *store, "umount", "--all"])
        shutil.rmtree(folder)


def _build(folder: Path, store: list[str]) -> Image:
    def buildah(*arguments: str) -> str:
        return _do(["buildah", *store, *arguments])

    _do(["debootstrap", "--variant=minbase", "--include=ca-certificates", RELEASE, str(folder / "debian")])
    shutil.copy(TRUST, folder / "debian" / TRUST.relative_to("/"))
    container = buildah("from", "scratch")
    buildah("copy", "-q", container, str(folder / "debian"), "/")
    buildah("config", "--env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "--env", f"PIP_CERT={TRUST}", container)
    buildah("commit", "-q", container, "localhost/build-base")
    buildah("run", "--isolation", "chroot", container, "apt-get", "update", "-q")
    install = ("apt-get", "install", "-y", "-q", "--no-install-recommends", "python3")
    buildah("run", "--isolation", "chroot", container, *install)
    buildah("config", "--env", "PIP_CERT-", container)
    buildah("commit", "-q", container, "localhost/run-base")
    bases = ("--build-arg", "BUILD_IMAGE=localhost/build-base", "--build-arg", "RUN_IMAGE=localhost/run-base")
    buildah(
        "build",
        "--isolation",
        "chroot",
        "--pull-never",
        "--format",
        "oci",
        *bases,
        "-t",
        "localhost/otelbridge",
        str(ROOT),
    )
    described = json.loads(buildah("inspect", "--type", "image", "localhost/otelbridge"))
    root = buildah("mount", buildah("from", "--pull-never", "localhost/otelbridge"))
    return Image(root=Path(root), config=described["OCIv1"]["config"])


def _do(argv: list[str]) -> str:
    """Runs a command; its output where it succeeds, a failure that shows it where it does not."""
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()

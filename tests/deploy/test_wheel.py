"""A wheel of this tree, with and without a C compiler, and the guide's installation, in environments of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.deploy.rendering import ROOT

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(240)]

SOURCES = ("otelbridge", "locks", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
BUILD_SECONDS = 180


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone has, without what this checkout compiled."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(path, folder)
    return folder


def wheel(source: Path, folder: Path, *, compiler: str) -> Path:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
        timeout=BUILD_SECONDS,
        env={**os.environ, "CC": compiler},
    )
    (built,) = folder.glob("*.whl")
    return built


def installed(built: Path, folder: Path) -> Path:
    """The program of a new environment that has the wheel, and the packages that the tests run with."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", built], check=True
    )
    (packages,) = folder.glob("lib/python*/site-packages")
    # After its own: the wheel's otelbridge comes before the checkout's, which an editable install puts on the path.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return folder / "bin" / "otelbridge"


def where_it_is_from(program: Path) -> str:
    done = subprocess.run(
        [program.with_name("python"), "-c", "import otelbridge; print(otelbridge.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=program.parent,
    )
    return done.stdout


@pytest.mark.parametrize(("compiler", "compiled"), [("cc", True), ("/nowhere/cc", False)])
def test_it_works_compiled_and_pure(source: Path, tmp_path: Path, compiler: str, compiled: bool) -> None:
    if compiled and shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    built = wheel(source, tmp_path / "dist", compiler=compiler)
    with zipfile.ZipFile(built) as archive:
        assert any(name.endswith(".so") for name in archive.namelist()) is compiled
    assert built.name.endswith("-py3-none-any.whl") is not compiled
    program = installed(built, tmp_path / "environment")
    assert str(tmp_path) in where_it_is_from(program)
    done = subprocess.run([program, "version", "--full"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    event = (ROOT / "tests" / "samples" / "alerts.json").read_text(encoding="utf-8")
    (tmp_path / "events.json").write_text(event, encoding="utf-8")
    told = subprocess.run(
        [program, "explain", "events.json", "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert told.returncode == 0, told.stderr
    assert "kubearmor" in told.stdout


def test_the_guides_commands_install_it_on_a_machine(source: Path, tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    section = guide.partition("\n## On a machine without Kubernetes\n")[2]
    (commands,) = [fence for fence in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) if "-m venv" in fence]
    for folder in ("/opt/otelbridge", "/etc/otelbridge"):
        commands = commands.replace(folder, str(tmp_path) + folder)
    (tmp_path / "opt").mkdir()
    done = subprocess.run(
        ["/bin/sh", "-ex"],
        input=commands,
        capture_output=True,
        text=True,
        check=False,
        cwd=source,
        timeout=BUILD_SECONDS,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    program, settings = tmp_path / "opt/otelbridge/bin/otelbridge", tmp_path / "etc/otelbridge/otelbridge.yaml"
    checked = subprocess.run(
        [program, "config", "check", "--config", settings], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of `build`, `twine` and `pipx`, locked, in an environment of their own."""
    folder = tmp_path_factory.mktemp("tools")
    venv.create(folder, with_pip=True)
    locked = ROOT / "locks" / "release.txt"
    subprocess.run([folder / "bin" / "pip", "install", "-q", "--require-hashes", "-r", locked], check=True)
    return folder / "bin"


def test_pipx_installs_the_wheel_and_the_demo_runs(tools: Path, source: Path, tmp_path: Path) -> None:
    built = wheel(source, tmp_path / "dist", compiler="/nowhere/cc")
    homes = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    subprocess.run(
        [tools / "pipx", "install", "--python", sys.executable, built],
        check=True,
        timeout=BUILD_SECONDS,
        env={**os.environ, **homes},
    )
    program = tmp_path / "bin" / "otelbridge"
    said = subprocess.run([program, "version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout.strip() in built.name
    shown = subprocess.run(
        [program, "demo", "--act-seconds", "0.3"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "No record is missing." in shown.stdout


def test_what_a_release_uploads_is_made_and_checked_as_the_release_page_says(
    tools: Path, source: Path, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "release.md").read_text(encoding="utf-8")
    made, checked = re.findall(r"`python -m ((?:build|twine)[^`]*)`", page)
    clone = tmp_path / "clone"
    shutil.copytree(source, clone)
    for name in ("proto", "tests", "CHANGELOG.md"):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, clone / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(path, clone)
    for command in (made, checked):
        subprocess.run(["/bin/sh", "-c", f"{tools}/python -m {command}"], check=True, cwd=clone, timeout=BUILD_SECONDS)
    assert len(list((clone / "dist").iterdir())) == 2, "a source distribution and a wheel"

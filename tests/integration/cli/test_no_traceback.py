"""Whatever becomes of a command's output, input or neighbours, it ends with a sentence and one of four exit codes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.unit.cli.invoking import invoke

OTELBRIDGE = (sys.executable, "-m", "otelbridge")
ODD = Path(__file__).parents[2] / "samples" / "odd.json"
EXIT_CODES = (0, 1, 2, 3)

DATA_COMMANDS = (
    ("version", "--full"),
    ("config", "show"),
    ("config", "schema"),
    ("config", "init"),
    ("explain", str(ODD)),
    ("explain", str(ODD), "--output", "json"),
    ("simulate", "--list-faults"),
    ("--help",),
)


def ended(
    *arguments: str, stdout: str = "pipe", stdin: bytes | None = None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command, its output to a file (`/dev/full`) or caught."""
    with Path(stdout if stdout != "pipe" else "/dev/null").open("wb") as file:
        return subprocess.run(
            [*OTELBRIDGE, *arguments],
            check=False,
            input=stdin,
            stdout=subprocess.PIPE if stdout == "pipe" else file,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", **variables},
            timeout=60,
        )


def assert_in_words(result: subprocess.CompletedProcess[bytes]) -> None:
    assert result.returncode in EXIT_CODES
    assert b"Traceback" not in result.stderr
    assert b"Exception ignored" not in result.stderr


@pytest.mark.parametrize("command", DATA_COMMANDS, ids=" ".join)
def test_a_full_disk_behind_stdout_is_said(command: tuple[str, ...]) -> None:
    result = ended(*command, stdout="/dev/full")
    assert_in_words(result)
    assert result.returncode == 3
    assert b"No space left on device" in result.stderr


def test_a_reader_that_goes_away_is_no_reason_to_complain() -> None:
    writing = subprocess.Popen([*OTELBRIDGE, "explain", str(ODD)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writing.stdout is not None
    writing.stdout.close()
    assert writing.stderr is not None
    assert writing.stderr.read() == b""
    writing.stderr.close()
    assert writing.wait(30) in EXIT_CODES


def test_a_terminal_without_utf_8_shows_what_it_can() -> None:
    result = ended("explain", str(ODD), LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert_in_words(result)
    assert result.returncode == 0
    assert b"\\u" in result.stdout


@pytest.mark.parametrize("stdin", [b"", b"\x00\xff", b"[", b"\x1f\x8bnot gzip"], ids=repr)
def test_input_that_is_none_is_said(stdin: bytes) -> None:
    result = ended("explain", "-", stdin=stdin)
    assert_in_words(result)
    assert result.returncode in (1, 3)
    assert result.stderr


class _WebSite(BaseHTTPRequestHandler):
    """Answers everything with a web page, as a site does for paths that it does not know."""

    def do_GET(self) -> None:
        page = b"<html>Welcome</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


@pytest.fixture(scope="module")
def somebody_else() -> Iterator[dict[str, str]]:
    """Addresses at which there is something, but no bridge; or nothing."""
    with (
        OtlpEndpoint() as endpoint,
        ThreadingHTTPServer(("127.0.0.1", 0), _WebSite) as site,
        socket.create_server(("127.0.0.1", 0)) as nobody,
    ):
        free = nobody.getsockname()[1]
        serving = Thread(target=site.serve_forever)
        serving.start()
        nobody.close()
        yield {
            "grpc": endpoint.grpc_endpoint,
            "otlp http": endpoint.http_endpoint,
            "a web site": f"http://127.0.0.1:{site.server_port}",
            "nobody": f"http://127.0.0.1:{free}",
            "no port": "http://127.0.0.1:99999",
            "half an address": "http://[::1",
            "no scheme": "127.0.0.1:32799",
            "another scheme": "ftp://127.0.0.1",
        }
        site.shutdown()
        serving.join()


@pytest.mark.parametrize(
    "who",
    ["grpc", "otlp http", "a web site", "nobody", "no port", "half an address", "no scheme", "another scheme"],
)
@pytest.mark.parametrize("command", [("ledger", "--url"), ("tail", "--from-bridge")], ids=" ".join)
def test_an_address_of_somebody_else_is_said(somebody_else: dict[str, str], command: tuple[str, str], who: str) -> None:
    result = invoke(*command, somebody_else[who])  # which raises what would be a traceback
    assert result.code in (2, 3)
    assert somebody_else[who] in result.talk


@pytest.mark.parametrize(
    "command", [("simulate", "--port"), ("simulate", "endpoint", "--http-port", "0", "--grpc-port")]
)
def test_a_port_that_is_taken_is_said(command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = ended(*command, str(taken.getsockname()[1]))
    assert_in_words(result)
    assert result.returncode == 3


def test_a_status_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = ended(
            "run", "--status-port", str(taken.getsockname()[1]), "--queue-directory", str(tmp_path),
            "--set", "status.host=127.0.0.1",
        )  # fmt: skip
    assert_in_words(result)
    assert result.returncode == 3
    assert b"in use" in result.stderr


LOAD_AND_TELL = """
import signal, sys
name = sys.argv.pop(1)
sys.addaudithook(
    lambda what, of: what == "import" and of[0] == name and (print("loading", flush=True), signal.pause())
)
from otelbridge.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["importlib.metadata", "otelbridge.cli.main"])
def test_ctrl_c_while_it_is_still_loading_leaves_no_traceback(name: str) -> None:
    command = [sys.executable, "-c", LOAD_AND_TELL, name, "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as loading:
        assert loading.stdout is not None
        assert loading.stdout.readline() == b"loading\n"
        loading.send_signal(signal.SIGINT)
        _, talk = loading.communicate(timeout=60)
    assert talk == b""
    assert loading.returncode == -signal.SIGINT


def test_a_closed_stdin_is_said() -> None:
    command = ["/bin/sh", "-c", f"exec {sys.executable} -m otelbridge explain - <&-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert done.stderr == "stdin cannot be read: it is closed\n"


def test_a_context_that_is_not_installed_is_left_out() -> None:
    result = ended("run", "--set", "queue.max_bytes=-1", OTEL_PYTHON_CONTEXT="x")
    assert_in_words(result)
    assert b"context" not in result.stderr
    assert result.returncode == 2

"""What an ordinary run imports is memory and time of its start on every node: a new dependency is a decision."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ORDINARY = {
    "google",
    "grpc",
    "grpc_health",
    "opentelemetry",
    "otelbridge",
    "tenacity",
    "typing_extensions",
    "waitress",
    "yaml",
}
"""Top-level packages, for gRPC to an endpoint without TLS."""
HERE_OR_NOT = {"isal", "grpc_tools"}
"""The one where there is a wheel of it; the other is of the development's, and grpc imports it where it is."""
ELSEWHERE = (
    "cryptography",  # where a certificate is set: 8 MiB
    "opentelemetry.exporter.otlp.proto.http",  # and requests with it: where OTLP goes by HTTP
    "otelbridge.send.http_sender",  # and urllib3 with it
    "otelbridge.send.console_sender",
    "otelbridge.simulator",
    "ssl",  # and OpenSSL with it, as with hashlib's: 4 MiB, where there is TLS
    "_hashlib",
    "prometheus_client",  # only tests compare with it
    "http.client",  # where OTLP goes by HTTP
    "statistics",
    "difflib",
    "rich",
    "typer",  # and pydantic with it: 9 MiB; where a command line is not plain
    "unittest",
)
RUN = """
import json, sys
import otelbridge.cli.main
sys.argv = ["otelbridge", "run", "--set", "queue.max_bytes=1"]
try:
    otelbridge.cli.main.main()
except SystemExit as end:
    assert end.code == 2, end
from otelbridge.send.sender import open_sender
from otelbridge.send.settings import SendSettings
from otelbridge.telemetry.exporters import open_exporters
from otelbridge.telemetry.settings import SignalSettings, TelemetrySettings

open_sender(SendSettings(), version="1")
signal = SignalSettings(endpoint="http://127.0.0.1:1")
open_exporters(TelemetrySettings(traces=signal, metrics=signal), console=sys.stderr, lent={})
files = [name for name, module in sys.modules.items() if getattr(module, "__file__", None)]
print(json.dumps([sorted(sys.modules), files]))
"""


@pytest.fixture(scope="module")
def imported() -> tuple[set[str], set[str]]:
    """Names of the modules of an ordinary run, and of those that are files."""
    done = subprocess.run([sys.executable, "-c", RUN], check=True, capture_output=True, text=True, timeout=60)
    every, files = json.loads(done.stdout)
    return set(every), set(files)


def test_an_ordinary_run_imports_these_packages_and_no_other(imported: tuple[set[str], set[str]]) -> None:
    _, files = imported
    roots = {name.partition(".")[0] for name in files} - set(sys.stdlib_module_names)
    roots -= {name for name in roots if name.startswith("_")}  # the environment's: an editable install's, setuptools'
    assert roots - HERE_OR_NOT == ORDINARY


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_only_some_settings_need_is_imported_by_them(name: str, imported: tuple[set[str], set[str]]) -> None:
    assert name not in imported[0]


TLS_AFTER_ALL = """
import ssl
import urllib3
import requests
from otelbridge.net.tls_files import client_context, read_tls_files
from otelbridge.feed.settings import FeedTlsSettings

assert client_context(read_tls_files(FeedTlsSettings(enabled=True), "feed.tls"), "h2").verify_mode is ssl.CERT_REQUIRED
assert urllib3.connection.HTTPSConnection is not urllib3.connection.DummyConnection
print("done")
"""


def test_who_needs_tls_later_has_it() -> None:
    again = [sys.executable, "-c", RUN + TLS_AFTER_ALL]
    done = subprocess.run(again, check=False, capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("done\n"), done.stderr


WITHOUT_OWN_DIGESTS = """
import sys

sys.modules["_sha1"] = None
from otelbridge.cli.process import import_without_openssl

import_without_openssl("hashlib")
import hashlib
print(hashlib.sha1(b"").hexdigest()[:8])
"""


def test_where_hashlib_has_no_digests_of_its_own_it_takes_openssls() -> None:
    again = [sys.executable, "-c", WITHOUT_OWN_DIGESTS]
    done = subprocess.run(again, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("da39a3ee\n", "")

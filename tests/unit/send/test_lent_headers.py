from __future__ import annotations

from pathlib import Path

import pytest

from otelbridge.send.credentials import lent_headers
from otelbridge.send.settings import SendSettings, SendSettingsError
from otelbridge.telemetry.settings import SignalSettings, TelemetrySettings


def test_who_borrows_gets_the_files_headers_and_nobody_else(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("sesame")
    send = SendSettings(endpoint="https://c:4317", token_file=token, headers={"x-tenant": "a"})
    borrower = SignalSettings(endpoint="https://c:4317", lend_credentials=True)
    lent = lent_headers(send, TelemetrySettings(traces=borrower, metrics=SignalSettings(endpoint="https://d:1")))

    assert set(lent) == {"traces"}
    assert lent["traces"]() == {"authorization": "Bearer sesame"}


def test_credentials_are_not_lent_over_plaintext_to_another_machine(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("sesame")
    borrower = SignalSettings(endpoint="http://elsewhere:4317", lend_credentials=True)
    with pytest.raises(SendSettingsError, match="unencrypted") as error:
        lent_headers(SendSettings(token_file=token), TelemetrySettings(traces=borrower))
    assert "sesame" not in str(error.value)

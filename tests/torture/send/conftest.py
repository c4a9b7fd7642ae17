"""Queue, workers and endpoint as the short forms have them."""

from __future__ import annotations

from tests.integration.send.conftest import road as road  # noqa: PLC0414  # a fixture: pytest finds it by its name

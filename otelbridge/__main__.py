"""Runs the command line: `otelbridge`, or `python -m otelbridge`."""

from __future__ import annotations

import signal


def main() -> None:
    """Runs the command line and exits; Ctrl-C ends it at any instant, without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started it wants it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from otelbridge.cli.main import main as run  # noqa: PLC0415 - takes a while, and Ctrl-C may come meanwhile

    run()


if __name__ == "__main__":
    main()

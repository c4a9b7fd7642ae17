"""The entry point of the command line: sets up the process, and turns errors into a sentence and an exit code."""

from __future__ import annotations

import io
import sys
import traceback

from otelbridge.cli.output import Exit, abandon_output, flush_output, say
from otelbridge.cli.process import import_without_openssl, limit_heaps, no_collection, open_standard_streams
from otelbridge.settings.environment import set_up_libraries


def main() -> None:
    """Runs the command line and exits."""
    open_standard_streams()
    set_up_libraries()
    limit_heaps()  # before a library starts a thread
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 shows what it can
    try:
        try:
            _command(sys.argv[1:])
        finally:
            flush_output()
    except BrokenPipeError:
        abandon_output()
        sys.exit(Exit.DONE)
    except OSError as error:
        abandon_output()
        say(f"The output cannot be written: {error.strerror or error}")
        sys.exit(Exit.UNREACHABLE)
    except Exception as error:  # noqa: BLE001 - a fault of ours: whoever sees it can do nothing with a traceback
        place = traceback.extract_tb(error.__traceback__)[-1]
        say(f"Internal error: {type(error).__name__}: {error} ({place.filename}:{place.lineno}).")
        say("Please report it, with the command and the output of `otelbridge version --full`.")
        sys.exit(Exit.FAILED)


def _command(arguments: list[str]) -> None:
    """The bridge itself without typer, which costs each node 9 MiB and a tenth of a second; all else by typer."""
    if arguments[:1] == ["run"]:
        with no_collection():
            import_without_openssl("hashlib", "grpc")
            from otelbridge.cli.service import flags_in, serve  # noqa: PLC0415  # see above

        flags = flags_in(arguments[1:])
        if flags is not None:
            sys.exit(serve(**flags))
    from otelbridge.cli.application import application, asked_for  # noqa: PLC0415  # see above

    application(asked_for(arguments))()

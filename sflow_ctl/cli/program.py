"""Runs a command, and turns errors into messages and exit statuses. Called by `__main__`."""

import errno
import itertools
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from protocol.errors import ExitStatus, FleetError, UsageError
from sflow_ctl.cli.leaving import leave
from sflow_ctl.cli.terminal.lines import OutputLostError, discard_stdout, print_line, print_traceback

_HINTS = dict.fromkeys(
    (errno.EMFILE, errno.ENFILE), "\n  hint:  raise the limit of open files: ulimit -n, and ulimit -Hn"
)
"""What to do about errors of the operating system, by number."""

_NAMED = ("--output-dir", "--workspace-dir", "--run-id", "--resume", "--run")
"""Options for which an empty value would be the working directory, or nothing at all."""


def main() -> None:
    """Run the command line and exit. Never returns."""
    debug = "--debug" in sys.argv[1:]
    try:
        status = _status_of_command(debug)
    except KeyboardInterrupt:
        status = int(ExitStatus.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the edge of the program
        status = int(_explained(error, debug))
    leave(status)


def _explained(error: Exception, debug: bool) -> ExitStatus:
    """Print an error of the machine (a full disk, too few descriptors, a file of another user), or our bug, said so."""
    if debug:
        print_traceback()
    if isinstance(
        error, UnicodeEncodeError
    ):  # a path or argument in another encoding, which no file of ours can hold
        shown = os.fsencode(error.object[max(0, error.start - 60) : error.end + 20]).decode(
            errors="backslashreplace"
        )
        hint = "rename it, or choose other directories with --workspace-dir and --output-dir"
        print_line(f"error[not-utf-8]: a path or argument is not UTF-8: {shown}\n  hint:  {hint}", err=True)
        return ExitStatus.USAGE
    if (
        isinstance(error, OSError) or getattr(error, "errno", None) in _HINTS
    ):  # of ZeroMQ, which is no OSError
        number, name = getattr(error, "errno", None) or 0, getattr(error, "filename", None)
        what = getattr(error, "strerror", None) or error
        shown = f"{name}: {what}" if name else f"{what}"
        print_line(f"error[operating-system]: {shown}{_HINTS.get(number, '')}", err=True)
        return ExitStatus.INFRASTRUCTURE
    if not debug:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        print_line(
            f"error[internal]: {type(error).__name__}: {error}\n"
            f"  where: {where.filename}:{where.lineno}\n"
            "  hint:  this is a bug in sflow-ctl; `sflow-ctl --debug ...` shows the traceback",
            err=True,
        )
    return ExitStatus.OUR_BUG


def _status_of_command(debug: bool) -> int:
    """Run the command line; return its exit status, also where it ended with an error of the user's or a lost output."""
    try:
        return _status()
    except FleetError as error:
        from sflow_ctl.cli.terminal.findings import print_findings

        print_findings(error)
        if debug:
            print_traceback()
        return int(error.exit_status)
    except OutputLostError as error:
        if error.has_reader_left:
            return int(ExitStatus.OK)
        with suppress(OutputLostError):
            print_line(f"error[output-not-written]: cannot write the output: {error}", err=True)
        return int(ExitStatus.INFRASTRUCTURE)
    except BrokenPipeError:
        discard_stdout()
        return int(ExitStatus.OK)


def _status() -> int:
    """Run the command line: a plain `run` without click and the options of all commands, which take long to import."""
    _refuse_empty(sys.argv[1:])
    if sys.argv[1:2] == ["run"]:
        from sflow_ctl.cli.plain_run import plain_options

        options = plain_options(sys.argv, os.environ)
        if options is not None:
            from sflow_ctl.cli.beginning import begin_first_of_many

            return begin_first_of_many(options)
    from sflow_ctl.cli.app import run_command_line

    return run_command_line()


def _refuse_empty(words: Sequence[str]) -> None:
    """Raise UsageError for `--output-dir ""`: a shell writes that for a variable that is not set."""
    ours = words[: words.index("--")] if "--" in words else words
    for word, following in itertools.zip_longest(ours, ours[1:]):
        option, equals, value = word.partition("=")
        if option in _NAMED and (not value if equals else following == ""):
            raise UsageError.of(
                "empty-value",
                f"the value of {option} is empty",
                where=option,
                hint="set the variable that it is written with, or leave the option out",
            )

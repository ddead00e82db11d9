"""Prints lines: the only way from a text to the user's terminal, except for tasks' output.

Texts of other programs (node names, reasons, log lines, values, file names) lose their control characters
here, so commands need not check them. Colours are added afterwards.
"""

import errno
import os
import sys
from contextlib import suppress
from typing import Any

import msgspec

from protocol.text.ansi import printable
from sflow_ctl.cli.terminal.paint import Colour, paint, stdout_wants_colours, wants_unicode
from sflow_ctl.plan.secrets import SECRETS


class OutputLostError(Exception):
    """Standard output or standard error accepts no more: its reader has gone, or the disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.has_reader_left = error.errno == errno.EPIPE


def write(text: str, *, err: bool = False, nl: bool = True, keeps_secrets: bool = False) -> None:
    """Write a text that is safe for a terminal, without values of secrets. Raises: OutputLostError."""
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return  # closed by the caller
    shown = text if keeps_secrets else SECRETS.mask.text(text)
    if not shown.isascii() and not wants_unicode(os.environ) and stream.isatty():
        from sflow_ctl.cli.terminal.drawn_characters import in_ascii  # few terminals

        shown = in_ascii(shown)
    try:
        print(shown, end="\n" if nl else "", file=stream, flush=True)
    except OSError as error:
        if not err:
            discard_stdout()
        raise OutputLostError(error) from error


def discard_stdout() -> None:
    """Redirect the rest of standard output to /dev/null, so that the interpreter's flush at its exit succeeds."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_line(text: str, colour: Colour | None = None, *, err: bool = False) -> None:
    """Print a line, or several, to standard output or standard error; `colour` is for a terminal only."""
    shown = printable(text)
    if colour is not None and not err:
        shown = paint(shown, colour, stdout_wants_colours())
    write(shown, err=err)


def print_coloured(text: str) -> None:
    """Print lines that have colours of ours in them to standard output; everything else a terminal acts on is left out."""
    write(printable(text, keeps_colours=True))


def print_document(text: str, *, keeps_secrets: bool = False) -> None:
    """Print a file's text to standard output: as it is for a pipe or file, without control characters on a terminal.

    With `keeps_secrets` a pipe or file gets the values of secrets as well: for documents that a run is started from.
    """
    if sys.stdout.isatty():
        write(printable(text), nl=False)
    else:
        write(text, nl=False, keeps_secrets=keeps_secrets)


def print_warning(text: str) -> None:
    """Print a warning to standard error."""
    print_line(f"warning: {text}", err=True)


def print_json(value: Any, indent: int = 1) -> None:
    """Print a value as JSON; control characters that JSON allows in strings are escaped."""
    write(_json(value, indent))


def json_line(value: Any) -> str:
    """Return a value as JSON on one line, as `print_json` prints it."""
    return _json(value, -1)


def _json(value: Any, indent: int) -> str:
    if SECRETS.mask:
        value = SECRETS.mask.data(msgspec.to_builtins(value))
    text = msgspec.json.format(msgspec.json.encode(value), indent=indent).decode()
    if text.replace("\n", "").isprintable():  # looking at each character of 100,000 tasks takes seconds
        return text
    return "".join(one if one == "\n" or one.isprintable() else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    number = ord(character)
    if number < 0x10000:
        return f"\\u{number:04x}"
    high, low = divmod(number - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def print_traceback() -> None:
    """Print the traceback of the exception that is handled; its message may quote a text from elsewhere."""
    import traceback

    print_line(traceback.format_exc().rstrip("\n"), err=True)

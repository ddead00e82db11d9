"""How findings are shown: errors and warnings on standard error, each with its place and remedy.

On a terminal they have colours, and the line of the file with a mark below what is meant. Texts of files lose their
control characters in `lines.py`. Called by the commands and by `app.py`.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from protocol.errors import Finding, FleetError
from protocol.text.ansi import printable
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.cli.terminal.lines import write
from sflow_ctl.cli.terminal.paint import Colour, paint, wants_colours

_PLACE = lazy_pattern(r"(?P<file>.+?):(?P<line>\d+):(?P<column>\d+)(?=\s|$)")
_WORD = lazy_pattern(r"\"[^\"]*\"|'[^']*'|[^\s:,\[\]{}]+|.")
_KEY = lazy_pattern(r'unknown key "(?P<key>[^"]+)"')
MAX_FILE_BYTES = 4 << 20
"""Of a file whose line is quoted."""
MAX_LINE = 160
_COLOURS: dict[str, Colour] = {"error": "red", "warning": "yellow"}

Level = Literal["error", "warning"]


def print_findings(error: FleetError) -> None:
    """Print all findings of an error. Raises: OutputLostError."""
    _print(error.findings, "error")


def print_warnings(findings: Iterable[Finding]) -> None:
    """Print warnings about a file. Raises: OutputLostError."""
    _print(findings, "warning")


def _print(findings: Iterable[Finding], level: Level) -> None:
    is_terminal = sys.stderr.isatty()
    has_colours = wants_colours(is_terminal, os.environ)
    texts = [finding_text(one, level, has_source=is_terminal, has_colours=has_colours) for one in findings]
    if texts:
        write("\n".join(texts), err=True)


def finding_text(finding: Finding, level: Level, *, has_source: bool, has_colours: bool) -> str:
    """Return a finding as lines, safe for a terminal."""
    first, *rest = printable(finding.text(level)).split("\n")
    head, colon, what = first.partition(": ")
    lines = [f"{paint(head, _COLOURS[level], has_colours)}{colon}{paint(what, 'bold', has_colours)}"]
    for line in rest:
        lines.append(line)
        if has_source and line.startswith("  where:") and finding.where is not None:
            key = _KEY.match(finding.what) if finding.code == "unknown-key" else None
            lines += _source_lines(finding.where, _COLOURS[level], has_colours, key["key"] if key else "")
    return "\n".join(lines)


def _source_lines(where: str, colour: Colour, has_colours: bool, key: str) -> list[str]:
    """Return the quoted line of the file and the mark below it; nothing where the file cannot be read again.

    The place of a key that does not belong there is that of its value: the key itself is marked if it is on the same line.
    """
    match = _PLACE.match(where)
    if match is None:
        return []
    number, column = int(match["line"]), int(match["column"])
    path = Path(match["file"])
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:  # a pipe was read already
            return []
        written = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    if not 0 < number <= len(written) or column > MAX_LINE:
        return []
    line = written[number - 1].replace("\t", " ")[:MAX_LINE]
    before = line.rfind(key, 0, column - 1) if key else -1
    column = column if before < 0 else before + 1
    word = _WORD.match(line, column - 1)
    mark = "^" * max(1, len(word[0]) if word is not None else 1)
    bar = paint("|", "dim", has_colours)
    margin = f"{number:>6}"
    pointer = f"{' ' * len(margin)} {bar} {' ' * (column - 1)}{paint(mark, colour, has_colours)}"
    return [f"{margin} {bar} {printable(line)}", pointer]

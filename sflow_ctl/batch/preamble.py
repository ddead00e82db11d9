"""Writes the shell text of a preamble: its commands in order, and a clear error when one fails.

The same text is in a batch script and comes before a run that is started by hand.
"""

import shlex
import zlib
from collections.abc import Sequence

from msgspec import Struct

MARK_VARIABLE = "SFLOW_PREAMBLE"
"""Set to the preamble's mark once it has run, so that a run in its environment does not run it again."""

_FUNCTIONS = """\
# The preamble. What it exports is the environment of the run, of its agents and its tasks.
preamble_next() {
    local status=$?
    ((status == 0)) || exit "$status"
    preamble_where=$1 preamble_command=$2
}
preamble_failed() {
    local status=$?
    printf 'error[preamble-failed]: the preamble ended with exit status %s: %s\\n' "$status" "$preamble_command" >&2
    printf '  where: %s\\n' "$preamble_where" >&2
    printf '  hint:  correct the command; write `|| true` after one that may fail\\n' >&2
    exit 3
}
trap preamble_failed EXIT"""
_END = """\
preamble_next '' ''
trap - EXIT
unset -f preamble_next preamble_failed
unset preamble_where preamble_command"""


class Preamble(Struct, frozen=True):
    """Commands, and the position of each in its file. May be empty."""

    commands: tuple[str, ...] = ()
    places: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """Return an identification of the preamble's commands."""
        return f"{zlib.crc32(chr(0).join(self.commands).encode(errors='surrogateescape')):08x}"

    def lines(self) -> list[str]:
        """Return the lines for bash; none without commands."""
        if not self.commands:
            return []
        body: list[str] = []
        for command, place in zip(self.commands, self.places, strict=True):
            first = command.strip().partition("\n")[0]
            body += [f"preamble_next {shlex.quote(place)} {shlex.quote(first)}", command.rstrip("\n")]
        return [_FUNCTIONS, *body, _END, f"export {MARK_VARIABLE}={self.mark}"]


def reentry(preamble: Preamble, directory: str, argv: Sequence[str]) -> str:
    """Return a script that runs the preamble, then replaces itself by `argv` in the directory in which it was started."""
    end = [f"cd {shlex.quote(directory)} || exit 3", f"exec {shlex.join(argv)}"]
    return "\n".join([*preamble.lines(), *end])

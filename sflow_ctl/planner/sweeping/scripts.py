"""Scripts of cells that differ only in swept values: written from the pieces of one of them. Called by `tasks/copies.py`.

Planning a task takes 50 times as long as writing its script, and cells mostly differ in nothing else.
"""

from collections.abc import Collection, Sequence

from msgspec import Struct

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.simple import UNKNOWN, Atom, Simple, evaluate_simple, simple
from sflow_ctl.format.expressions.templates import as_text, pieces
from sflow_ctl.planner.phases.graph import Replica
from sflow_ctl.planner.source import namespace


class CellScript(Struct, frozen=True):
    """The script of a task as each of its cells has it."""

    lines: tuple[tuple[str | Simple, ...], ...]
    """Of each line its pieces: texts, and expressions on swept values."""

    def of(self, replica: Replica) -> str | None:
        """Return the script of a copy; None where a value is not as simple as the expression."""
        assert replica.cell is not None
        swept = dict(replica.sweep)
        names = namespace(swept, {"sweep": replica.cell.view} if "sweep" not in swept else {})
        lines = []
        for line in self.lines:
            texts = []
            for piece in line:
                value = piece if isinstance(piece, str) else evaluate_simple(piece, names)
                if value is UNKNOWN:
                    return None
                texts.append(as_text(value))
            lines.append("".join(texts))
        return "\n".join(lines)


def cell_script(task: schema.Task, swept: Collection[str], hidden: Collection[str]) -> CellScript | None:
    """Return the script of a task in pieces; None if it has expressions on other things than swept variables and the cell.

    `hidden` are variables whose names mean other things in expressions.
    """
    known = set(swept) - set(hidden) - {"variables", "task"}
    lines = []
    for item in task.script:
        line: list[str | Simple] = []
        for piece in pieces(item):
            if not piece.is_expression:
                line.append(piece.text)
                continue
            parts = simple(piece.text)
            if parts is None or not all(
                _is_known(atom, known, swept) for atom in (parts.left, parts.right) if atom
            ):
                return None
            line.append(parts)
        lines.append(tuple(line))
    return CellScript(tuple(lines))


def _is_known(atom: Atom, known: Collection[str], swept: Collection[str]) -> bool:
    """Return whether an atom is a number, a swept variable, or a fact of the cell."""
    if atom.name is None or atom.name in known:
        return True
    steps: Sequence[str | int] = atom.steps
    if atom.name == "variables":
        return bool(steps) and steps[0] in swept
    return atom.name == "sweep" and "sweep" not in swept

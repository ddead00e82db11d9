"""State diagrams of tasks, runs and ranks, drawn from the tables of transitions as SVG.

Positions of states are chosen by hand, edges come from the tables: a state without a position fails. `test_generated.py`
writes `docs/reference/states.md` and its pictures with `SFLOW_REWRITE=1`. SVG, and not Mermaid, because the offline
documents must not load a script from the network.
"""

import ast
import inspect
import math
import textwrap
from collections.abc import Mapping
from enum import Enum
from html import escape
from typing import NamedTuple, TypeVar

from sflow_agent.core.rank import NEXT_PHASES, RankPhase
from sflow_ctl.core.model.phase import RUN_TRANSITIONS, RunPhase
from sflow_ctl.core.states import TERMINAL, TRANSITIONS, TaskState

S = TypeVar("S", bound=Enum)
WIDTH, HEIGHT = 118, 40
"""Of a box."""
_STEP_X, _STEP_Y = 170, 100
_END = "an end"
"""One box for all states that a task cannot leave."""
_STYLE = (
    "text{font:14px sans-serif;text-anchor:middle;dominant-baseline:central;fill:#222}"
    "rect{fill:#eef3fb;stroke:#4a6fa5;stroke-width:1.5}rect.end{fill:#f3f3f3;stroke:#777}"
    "path{fill:none;stroke:#555;stroke-width:1.3;marker-end:url(#arrow)}"
)


class Diagram(NamedTuple):
    """One picture: its states at columns and rows, and its edges."""

    title: str
    positions: Mapping[str, tuple[float, float]]
    edges: tuple[tuple[str, str], ...]


def _edges(table: Mapping[S, frozenset[S]]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (str(old.value), str(new.value))
        for old, following in table.items()
        for new in sorted(following, key=str)
    )


def _task_edges() -> tuple[tuple[str, str], ...]:
    found = {
        (old.value, _END if new in TERMINAL else new.value)
        for old, following in TRANSITIONS.items()
        for new in following
    }
    return tuple(sorted(found))


DIAGRAMS = {
    "states-task.svg": Diagram(
        "States of a task",
        {
            "waiting": (0, 0),
            "queued": (1, 0),
            "starting": (2, 0),
            "running": (3, 0),
            "ready": (4, 0),
            "stopping": (3, 1.2),
            _END: (1.5, 2.4),
        },
        _task_edges(),
    ),
    "states-run.svg": Diagram(
        "Phases of a run",
        {"running": (0, 0), "draining": (1, 0.8), "stopping": (2, 0), "leaving": (3, 0), "finished": (4, 0)},
        _edges(RUN_TRANSITIONS),
    ),
    "states-rank.svg": Diagram(
        "Phases of a rank on its node",
        {
            "starting": (0, 0),
            "running": (1, 0),
            "stopping": (2, 0),
            "diagnosing": (1.5, 1.2),
            "clearing": (3, 0.6),
            "gone": (4, 0.6),
        },
        _edges(NEXT_PHASES),
    ),
}


def svg(diagram: Diagram) -> str:
    """Return the picture of a diagram."""
    missing = {name for edge in diagram.edges for name in edge} - diagram.positions.keys()
    assert not missing, f"give {missing} a position"
    centres = {
        name: (60 + WIDTH / 2 + x * _STEP_X, 60 + HEIGHT / 2 + y * _STEP_Y)
        for name, (x, y) in diagram.positions.items()
    }
    width = max(x for x, _ in centres.values()) + WIDTH / 2 + 60
    height = max(y for _, y in centres.values()) + HEIGHT / 2 + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">',
        f"<title>{escape(diagram.title)}</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" style="fill:#555;stroke:none;marker-end:none"/></marker></defs>',
    ]
    both = set(diagram.edges)
    lines += [
        _edge(centres[old], centres[new], (new, old) in both) for old, new in diagram.edges if old != new
    ]
    for name, (x, y) in centres.items():
        kind = ' class="end"' if name in (_END, "finished", "gone") else ""
        lines.append(
            f'<rect{kind} x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
        )
        lines.append(f'<text x="{x:g}" y="{y:g}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _edge(start: tuple[float, float], end: tuple[float, float], is_double: bool) -> str:
    """Return an arrow between two boxes; a bow where it would cross boxes of the same row, or its reverse."""
    (x1, y1), (x2, y2) = start, end
    dx, dy = x2 - x1, y2 - y1
    length = math.hypot(dx, dy)
    far = dy == 0 and abs(dx) > _STEP_X * 1.1
    bow = 0.0
    if far:
        bow = 26 + 14 * (abs(dx) / _STEP_X - 1)
    elif is_double:
        bow = 16
    mx, my = (x1 + x2) / 2 + bow * dy / length * 2, (y1 + y2) / 2 - bow * dx / length * 2
    if far:
        my = (y1 + y2) / 2 - bow * 2 * (1 if dx > 0 else -1)
    sx, sy = _border((x1, y1), (mx, my))
    ex, ey = _border((x2, y2), (mx, my))
    return f'<path d="M{sx:.1f} {sy:.1f} Q{mx:.1f} {my:.1f} {ex:.1f} {ey:.1f}"/>'


def _border(centre: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Return where the line from the centre of a box leaves it."""
    x, y = centre
    dx, dy = towards[0] - x, towards[1] - y
    scale = min(
        WIDTH / 2 / abs(dx) if dx else math.inf,
        HEIGHT / 2 / abs(dy) if dy else math.inf,
    )
    return x + dx * min(scale, 1.0), y + dy * min(scale, 1.0)


def _meanings(kind: type[Enum]) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    name = ""
    for statement in definition.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]):
                pass
            case ast.Expr(value=ast.Constant(value=str(text))) if name:
                found[str(kind[name].value)] = " ".join(text.split())
                name = ""
            case _:
                name = ""
    return found


def _table(kind: type[S], table: Mapping[S, frozenset[S]]) -> list[str]:
    meanings = _meanings(kind)
    order = list(kind)
    lines = ["| State | Meaning | Followed by |", "|---|---|---|"]
    for state in order:
        following = ", ".join(f"`{new.value}`" for new in order if new in table[state])
        meaning = meanings[str(state.value)]
        lines.append(f"| `{state.value}` | {meaning} | {following or 'none'} |")
    return lines


def states_page() -> str:
    """Return `docs/reference/states.md`."""
    return "\n".join(
        [
            "# States",
            "",
            "Generated from the tables in the source; do not edit. A change that is not in a table is a bug.",
            "",
            "## A task",
            "",
            "`status`, `events.jsonl` and `summary.json` have these words. A task that waits for a retry or a restart is",
            "`waiting` again.",
            "",
            f"![{DIAGRAMS['states-task.svg'].title}](states-task.svg)",
            "",
            *_table(TaskState, TRANSITIONS),
            "",
            "## A run",
            "",
            "How a run ended is its outcome, in `summary.json`.",
            "",
            f"![{DIAGRAMS['states-run.svg'].title}](states-run.svg)",
            "",
            *_table(RunPhase, RUN_TRANSITIONS),
            "",
            "## A rank",
            "",
            "One process of a task, in the agent of its node.",
            "",
            f"![{DIAGRAMS['states-rank.svg'].title}](states-rank.svg)",
            "",
            *_table(RankPhase, NEXT_PHASES),
            "",
        ]
    )

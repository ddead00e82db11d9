"""The page of state diagrams, made from the tables of transitions: its text, and one SVG for each table.

The pictures are drawn here, as documents open without a network and Mermaid needs a browser with its program.
`SFLOW_REWRITE=1 pytest tests/integration/documents` writes them anew.
"""

import ast
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from xml.sax.saxutils import escape

from sflow_agent.core.rank import NEXT_PHASES, RankPhase
from sflow_ctl.core.model.phase import RUN_TRANSITIONS, RunPhase
from sflow_ctl.core.states import LIVE, TRANSITIONS, TaskState

BOX_WIDTH, BOX_HEIGHT = 104, 34
COLUMN, ROW = 160, 62
MARGIN = 56


@dataclass(frozen=True)
class Place:
    """Where a state is drawn: the column from the left, and the row from the top."""

    column: float
    row: float


@dataclass(frozen=True)
class Group:
    """States that are drawn in a frame. What all of them lead to is drawn as one arrow of the frame."""

    name: str
    states: frozenset[Enum]


@dataclass(frozen=True)
class Diagram:
    """One table of transitions, and where its states are drawn."""

    name: str
    title: str
    about: str
    states: type[Enum]
    table: Mapping[Any, frozenset[Any]]
    places: Mapping[Enum, Place]
    groups: tuple[Group, ...] = ()

    @property
    def image(self) -> str:
        """The file of the picture, beside the page."""
        return f"images/{self.name}_states.svg"

    def arrows(self) -> list[tuple[Enum | Group, Enum]]:
        """Return the arrows to draw, from states and from groups."""
        arrows: list[tuple[Enum | Group, Enum]] = []
        left = dict(self.table)
        for group in self.groups:
            shared = frozenset.intersection(*(self.table[one] for one in group.states))
            left.update({one: self.table[one] - shared for one in group.states})
            arrows += [(group, to) for to in self.states if to in shared]
        arrows += [(state, to) for state in self.states for to in self.states if to in left[state]]
        return arrows


DIAGRAMS = (
    Diagram(
        name="task",
        title="A task",
        about="`sflow_ctl/core/states.py`. Why a task is stopping is a field of it, not a state.",
        states=TaskState,
        table=TRANSITIONS,
        places={
            TaskState.WAITING: Place(0, 1),
            TaskState.QUEUED: Place(1, 1),
            TaskState.STARTING: Place(2.4, 1),
            TaskState.RUNNING: Place(3.4, 1),
            TaskState.READY: Place(4.4, 1),
            TaskState.STOPPING: Place(5.4, 1),
            TaskState.SKIPPED: Place(0, 4.4),
            TaskState.CANCELLED: Place(1.1, 4.4),
            TaskState.LOST: Place(2.2, 4.4),
            TaskState.COMPLETED: Place(3.3, 4.4),
            TaskState.FAILED: Place(4.4, 4.4),
            TaskState.TIMEOUT: Place(5.5, 4.4),
        },
        groups=(
            Group("not started", frozenset({TaskState.WAITING, TaskState.QUEUED})),
            Group("live", LIVE),
        ),
    ),
    Diagram(
        name="run",
        title="A run",
        about="`sflow_ctl/core/model/phase.py`. How a run ends is its outcome, and why is its cause.",
        states=RunPhase,
        table=RUN_TRANSITIONS,
        places={
            RunPhase.RUNNING: Place(0, 0),
            RunPhase.DRAINING: Place(1, 1.2),
            RunPhase.STOPPING: Place(2, 0),
            RunPhase.LEAVING: Place(3, 0),
            RunPhase.FINISHED: Place(4, 0),
        },
    ),
    Diagram(
        name="rank",
        title="A rank, as its agent sees it",
        about="`sflow_agent/core/rank.py`. How far a stop has come is its `StopSequence`.",
        states=RankPhase,
        table=NEXT_PHASES,
        places={
            RankPhase.STARTING: Place(0, 1),
            RankPhase.RUNNING: Place(1.2, 1),
            RankPhase.LOOKING: Place(1.2, 0),
            RankPhase.DIAGNOSING: Place(2.4, 0),
            RankPhase.STOPPING: Place(1.2, 2.6),
            RankPhase.CLEARING: Place(3.6, 1),
            RankPhase.GONE: Place(4.8, 2.6),
        },
    ),
)


def page() -> str:
    """Return the page."""
    lines = [
        "# State diagrams",
        "",
        "Every legal change of state is in a table beside the states; an illegal one is an error. This page is made from the",
        "tables. What leads to a change is in [the architecture](architecture.md), what users see of it in",
        "[events.jsonl](reference/events.md).",
    ]
    for diagram in DIAGRAMS:
        meanings = _meanings(diagram.states)
        lines += [
            "",
            f"## {diagram.title}",
            "",
            diagram.about,
            "",
            f"![{diagram.title}]({diagram.image})",
            "",
        ]
        if diagram.groups:
            lines += ["An arrow that begins at a frame is legal from each state in it.", ""]
        lines += ["| State | Meaning | May become |", "|---|---|---|"]
        for state in diagram.states:
            following = ", ".join(f"`{to.value}`" for to in diagram.states if to in diagram.table[state])
            lines.append(f"| `{state.value}` | {meanings[state.name]} | {following or 'it has ended'} |")
    return "\n".join(lines) + "\n"


def pictures() -> dict[str, str]:
    """Return the text of each picture by its file, relative to the page."""
    return {diagram.image: _svg(diagram) for diagram in DIAGRAMS}


def _meanings(states: type[Enum]) -> dict[str, str]:
    """Return the docstrings below the members of an enum, one line each."""
    (made,) = ast.parse(inspect.getsource(states)).body
    assert isinstance(made, ast.ClassDef)
    found: dict[str, str] = {}
    for before, after in zip(made.body, made.body[1:], strict=False):
        match before, after:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
            case _:
                pass
    return found


# ---------------------------------------------------------------------- pictures


def _svg(diagram: Diagram) -> str:
    centres = {state: _centre(place) for state, place in diagram.places.items()}
    width = max(x for x, _ in centres.values()) + BOX_WIDTH / 2 + MARGIN
    height = max(y for _, y in centres.values()) + BOX_HEIGHT / 2 + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'font-family="sans-serif" font-size="14">',
        f"<title>{escape(diagram.title)}</title>",
        '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8Z" fill="#456"/></marker></defs>',
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#fff"/>',
    ]
    frames = {group: _frame([centres[state] for state in group.states]) for group in diagram.groups}
    for group, (left, top, right, bottom) in frames.items():
        parts.append(
            f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" rx="10" '
            'fill="#eef3f8" stroke="#89a" stroke-dasharray="5 4"/>'
        )
        parts.append(f'<text x="{left + 8:g}" y="{bottom - 6:g}" fill="#456">{escape(group.name)}</text>')
    for source, target in diagram.arrows():
        box = frames[source] if isinstance(source, Group) else _box(centres[source])
        parts.append(
            f'<path d="{_curve(box, _box(centres[target]))}" fill="none" stroke="#456" '
            'stroke-width="1.3" marker-end="url(#end)"/>'
        )
    for state, (x, y) in centres.items():
        is_last = not diagram.table[state]
        parts.append(
            f'<rect x="{x - BOX_WIDTH / 2:g}" y="{y - BOX_HEIGHT / 2:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" '
            f'rx="{17 if is_last else 6}" fill="{"#e8eee8" if is_last else "#dfe9f5"}" stroke="#456"/>'
        )
        parts.append(f'<text x="{x:g}" y="{y + 5:g}" text-anchor="middle" fill="#123">{state.value}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def _centre(place: Place) -> tuple[float, float]:
    return MARGIN + BOX_WIDTH / 2 + place.column * COLUMN, MARGIN + BOX_HEIGHT / 2 + place.row * ROW


def _box(centre: tuple[float, float]) -> Box:
    x, y = centre
    return x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2, x + BOX_WIDTH / 2, y + BOX_HEIGHT / 2


def _frame(centres: Sequence[tuple[float, float]]) -> Box:
    lefts, tops, rights, bottoms = zip(*map(_box, centres), strict=True)
    return min(lefts) - 14, min(tops) - 30, max(rights) + 14, max(bottoms) + 34


def _curve(source: Box, target: Box) -> str:
    """Return a path from one box to another: down, along the reading direction, or in an arc above or below."""
    left, top, right, bottom = source
    to_left, to_top, to_right, to_bottom = target
    x, y, to_x, to_y = (
        (left + right) / 2,
        (top + bottom) / 2,
        (to_left + to_right) / 2,
        (to_top + to_bottom) / 2,
    )
    if to_top > bottom + ROW:
        bend = (to_top - bottom) / 2
        return f"M{x:g} {bottom:g}C{x:g} {bottom + bend:g} {to_x:g} {to_top - bend:g} {to_x:g} {to_top - 1:g}"
    if to_x < x:  # back: a frame's arrow above, a state's below
        is_frame = bottom - top > BOX_HEIGHT
        start, end, turn = (top, to_top - 1, top - 36) if is_frame else (bottom, to_bottom + 1, bottom + 30)
        return f"M{x:g} {start:g}C{x:g} {turn:g} {to_x:g} {turn:g} {to_x:g} {end:g}"
    if to_y == y and to_left - right > COLUMN:  # past others of the row
        return f"M{x:g} {top:g}C{x:g} {top - 26:g} {to_x:g} {top - 26:g} {to_x:g} {to_top - 1:g}"
    bend = (to_left - right) / 2
    return f"M{right:g} {y:g}C{right + bend:g} {y:g} {to_left - bend:g} {to_y:g} {to_left - 1:g} {to_y:g}"

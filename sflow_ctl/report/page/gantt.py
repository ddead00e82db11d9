"""The tasks over time as SVG: a row for each task, or a lane for each GPU and for what ran beside each other on a node. Pure.

Positions are percentages, so that the chart is made wider by the style alone. Many replicas of a task, and many attempts on a
lane, are drawn as one area: how many there were at each time.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from msgspec import Struct

from protocol.text.counted import counted
from sflow_ctl.core.states import TaskState
from sflow_ctl.report.page.markup import NOTHING, Markup, joined, tag
from sflow_ctl.report.page.scale import SCALES, Scale, profile
from sflow_ctl.report.run_report.model import AttemptReport, RunReport, TaskReport
from sflow_ctl.report.words import duration_text

S = TaskState
ROW, BAR, HEAD = 20, 12, 24
MAX_ROWS = 400
"""Tasks with a row of their own; of more, replicas share one."""
MAX_LANES = 300
MAX_ON_LANE = 600
"""Attempts that are drawn one by one on a lane."""
MAX_BESIDE = 8
"""Lanes for attempts without GPUs on one node."""
BINS = 240
_END_CLASSES = {
    S.COMPLETED: "done",
    S.FAILED: "failed",
    S.TIMEOUT: "timeout",
    S.LOST: "lost",
    S.CANCELLED: "cancelled",
    S.SKIPPED: "cancelled",
}
_MARKS = {"failed": "✕", "timeout": "◷", "lost": "?"}
BAD = frozenset(_MARKS)


class _Piece(Struct, frozen=True):
    begin: float
    end: float
    kind: str


class _Drawn(Struct, frozen=True):
    """An attempt on a lane."""

    begin: float
    end: float
    task: TaskReport
    attempt: AttemptReport
    place: str = ""


class Gantt:
    """The charts of one run. `name` begins their ids, where a page has several."""

    def __init__(self, report: RunReport, name: str) -> None:
        self._report = report
        self._name = name
        self._end = max(report.run.duration_s, 0.001)
        self._scale = Scale(self._end)
        self._numbers = {task.name: number for number, task in enumerate(report.tasks)}

    def by_task(self, linked: frozenset[str]) -> Markup:
        """Return the chart with a row for each task; names of tasks in `linked` lead to their row of the table."""
        tasks = [task for task in self._report.tasks if task.attempts]
        if len(tasks) <= MAX_ROWS:
            tasks.sort(key=lambda task: (_begin(task.attempts[0]), self._numbers[task.name]))
            rows = [(self._label(task, linked), self._row(task)) for task in tasks]
            return self._chart(rows, "Tasks over time", "")
        groups: dict[str, list[TaskReport]] = {}
        for task in tasks:
            groups.setdefault(task.base, []).append(task)
        ordered = sorted(groups.items(), key=lambda one: min(_begin(task.attempts[0]) for task in one[1]))
        rows = [self._group(name, members, linked) for name, members in ordered[:MAX_ROWS]]
        note = "Replicas of a task share a row, which shows how many of them ran at each time."
        if len(ordered) > MAX_ROWS:
            note += f" {counted(len(ordered) - MAX_ROWS, 'more row')} are left out; report.json has all."
        return self._chart(rows, "Tasks over time", note)

    def by_node(self) -> Markup:
        """Return the chart with lanes for GPUs and nodes."""
        lanes = self._lanes()
        rows = [(self._text(label), self._lane(drawn)) for label, drawn in lanes[:MAX_LANES]]
        left = len(lanes) - MAX_LANES
        note = f"{counted(left, 'more lane')} are left out; report.json has all." if left > 0 else ""
        return self._chart(rows, "Nodes and GPUs over time", note)

    # ------------------------------------------------------------------ rows

    def _label(self, task: TaskReport, linked: frozenset[str]) -> Markup:
        if task.name not in linked:
            return self._text(task.name)
        return tag("a", self._text(task.name), href=f"#{self._name}t{self._numbers[task.name]}")

    @staticmethod
    def _text(text: str) -> Markup:
        shown = text if len(text) <= 30 else f"{text[:18]}…{text[-11:]}"
        title = tag("title", text) if shown != text else NOTHING
        return tag("text", title, shown, x=8, y=14)

    def _row(self, task: TaskReport) -> Markup:
        return joined(self._attempt(task, attempt) for attempt in task.attempts)

    def _attempt(self, task: TaskReport, attempt: AttemptReport, place: str = "") -> Markup:
        pieces = list(_pieces(task, attempt, self._end))
        if not pieces:
            return NOTHING
        kind = _end_class(attempt)
        mark = NOTHING
        if kind in BAD:
            mark = tag("text", _MARKS[kind], x=f"{self._scale.at(pieces[-1].end)}%", y=14, class_=f"m {kind}")
        return tag("g", tag("title", self._title(task, attempt, place)), *map(self._rect, pieces), mark)

    def _rect(self, piece: _Piece) -> Markup:
        x = self._scale.at(piece.begin)
        width = round(self._scale.at(piece.end) - x, 3)
        is_thin = piece.kind == "queued"
        return tag(
            "rect",
            x=f"{x}%",
            y=9 if is_thin else 4,
            width=f"{width}%" if width else "0.05%",
            height=2 if is_thin else BAR,
            class_=piece.kind,
        )

    def _title(self, task: TaskReport, attempt: AttemptReport, place: str) -> str:
        number = f" #{attempt.number}" if len(task.attempts) > 1 else ""
        begin = _begin(attempt)
        end = attempt.ended_s
        how = "lives" if attempt.end is None else "stopped" if task.is_stopped else attempt.end.value
        parts = [f"{task.name}{number}: {how}"]
        parts.append(
            f"{duration_text((self._end if end is None else end) - begin)} from {duration_text(begin)} on"
        )
        if attempt.running_s is not None and attempt.ready_s is not None:
            parts.append(f"ready after {duration_text(attempt.ready_s - attempt.running_s)}")
        if attempt.text and _end_class(attempt) in BAD:
            parts.append(attempt.text[:200])
        where = place or ", ".join(self._report.nodes[node].name for node in attempt.nodes[:4])
        return "\n".join([*parts, *([where] if where else [])])

    def _group(
        self, name: str, members: Sequence[TaskReport], linked: frozenset[str]
    ) -> tuple[Markup, Markup]:
        if len(members) == 1:
            return self._label(members[0], linked), self._row(members[0])
        drawn = [_drawn(task, attempt, self._end) for task in members for attempt in task.attempts]
        return self._text(f"{name} ×{len(members)}"), self._area(drawn, f"{name}: {len(members)} tasks")

    def _area(self, drawn: Sequence[_Drawn], title: str) -> Markup:
        """Return how many attempts there were at each time, and how many of them ended badly."""
        spans = [(one.begin, one.end) for one in drawn]
        bad = [(one.begin, one.end) for one in drawn if _end_class(one.attempt) in BAD]
        levels = profile(spans, self._end, BINS)
        top = max(levels) or 1.0
        said = f"{title}, up to {round(top)} at once" + (f", {len(bad)} ended badly" if bad else "")
        areas = [_area_path(levels, top, "many")]
        if bad:
            areas.append(_area_path(profile(bad, self._end, BINS), top, "many failed"))
        inner = tag(
            "svg", *areas, viewbox=f"0 0 {BINS} 100", preserveaspectratio="none", y=3, width="100%", height=14
        )
        return tag("g", tag("title", said), inner)

    # ------------------------------------------------------------------ lanes

    def _lanes(self) -> list[tuple[str, list[_Drawn]]]:
        gpus: dict[tuple[int, int], list[_Drawn]] = {}
        others: dict[int, list[_Drawn]] = {}
        for task in self._report.tasks:
            for attempt in task.attempts:
                for node in attempt.nodes:
                    one = _drawn(task, attempt, self._end)
                    for gpu in attempt.gpus:
                        gpus.setdefault((node, gpu), []).append(one)
                    if not attempt.gpus:
                        others.setdefault(node, []).append(one)
        lanes: list[tuple[str, list[_Drawn]]] = []
        for host in self._report.nodes:
            lanes += [
                (f"{host.name} GPU {gpu}", gpus[at, gpu]) for at, gpu in sorted(gpus) if at == host.index
            ]
            beside = _packed(others.get(host.index, []))
            if len(beside) > MAX_BESIDE:
                lanes.append((host.name, others[host.index]))
            else:
                lanes += [(host.name if not number else "", lane) for number, lane in enumerate(beside)]
        return lanes

    def _lane(self, drawn: list[_Drawn]) -> Markup:
        if len(drawn) > MAX_ON_LANE or _overlap(drawn):
            return self._area(drawn, f"{len(drawn)} attempts")
        return joined(self._attempt(one.task, one.attempt) for one in drawn)

    # ------------------------------------------------------------------ the chart

    def _chart(self, rows: Sequence[tuple[Markup, Markup]], title: str, note: str) -> Markup:
        if not rows:
            return tag("p", "No task has been started.", class_="note")
        height = HEAD + ROW * len(rows)
        labels, bars = [], []
        for number, (label, bar) in enumerate(rows):
            y = HEAD + ROW * number
            stripe = tag("rect", y=y, width="100%", height=ROW, class_="stripe") if number % 2 else NOTHING
            labels.append(joined([stripe, tag("svg", label, y=y, height=ROW)]))
            bars.append(joined([stripe, tag("svg", bar, y=y, width="100%", height=ROW, overflow="visible")]))
        axis = joined(self._marks(zoom) for zoom in SCALES)
        chart = tag(
            "div",
            tag(
                "div",
                tag("svg", *labels, class_="names", height=height, width=230),
                tag("svg", axis, *bars, class_="bars", height=height, width="100%"),
                class_="wide",
            ),
            class_="gantt",
            tabindex="0",
            role="region",
            aria_label=f"{title}, scrollable",
        )
        return joined([chart, tag("p", note, class_="note") if note else NOTHING])

    def _marks(self, zoom: int) -> Markup:
        parts = [
            f'<line x1="{x}%" x2="{x}%" y1="{HEAD - 6}" y2="100%"/><text x="{x}%" y="13" dx="3">{text}</text>'
            for x, text in ((self._scale.at(seconds), text) for seconds, text in self._scale.marks(zoom))
        ]
        return tag("g", Markup("".join(parts)), class_=f"axis k{zoom}")


def _begin(attempt: AttemptReport) -> float:
    times = (attempt.starting_s, attempt.running_s, attempt.ended_s)
    return next((one for one in times if one is not None), 0.0)


def _end_class(attempt: AttemptReport) -> str:
    return "live" if attempt.end is None else _END_CLASSES.get(attempt.end, "cancelled")


def _pieces(task: TaskReport, attempt: AttemptReport, now: float) -> Iterator[_Piece]:
    """Yield the parts of an attempt: in the queue, in start-up, getting ready, and at work, in the colour of its end."""
    begin, end = _begin(attempt), attempt.ended_s if attempt.ended_s is not None else now
    if attempt.queued_s is not None and begin - attempt.queued_s > 0.02:
        yield _Piece(attempt.queued_s, begin, "queued")
    running = attempt.running_s
    if running is None:
        yield _Piece(begin, end, "startup" if attempt.end is None else _end_class(attempt))
        return
    if running > begin:
        yield _Piece(begin, running, "startup")
    kind = _end_class(attempt)
    if not task.is_service and attempt.ready_s is None:
        yield _Piece(running, end, kind)
        return
    ready = attempt.ready_s if attempt.ready_s is not None else end
    yield _Piece(
        running, min(ready, end), "loading" if attempt.ready_s is not None or kind == "live" else kind
    )
    stopping = attempt.stopping_s if attempt.stopping_s is not None else end
    if stopping > ready:
        is_fine = task.is_stopped or kind in ("live", "done", "cancelled")
        yield _Piece(ready, stopping, "serving" if is_fine else kind)
    if end > max(stopping, ready):
        yield _Piece(max(stopping, ready), end, "cancelled")


def _drawn(task: TaskReport, attempt: AttemptReport, now: float) -> _Drawn:
    return _Drawn(_begin(attempt), attempt.ended_s if attempt.ended_s is not None else now, task, attempt)


def _packed(drawn: Iterable[_Drawn]) -> list[list[_Drawn]]:
    """Return the attempts on as few lanes as they fit on; all beyond the last one on that."""
    lanes: list[list[_Drawn]] = []
    for one in sorted(drawn, key=lambda one: (one.begin, one.end)):
        free = next((lane for lane in lanes if lane[-1].end <= one.begin), None)
        if free is not None:
            free.append(one)
        elif len(lanes) <= MAX_BESIDE:
            lanes.append([one])
    return lanes


def _overlap(drawn: Sequence[_Drawn]) -> bool:
    """Return whether attempts overlap by more than the records of their changes may."""
    ordered = sorted(drawn, key=lambda one: one.begin)
    return any(b.begin < a.end - 0.05 for a, b in pairwise(ordered))


def _area_path(levels: Sequence[float], top: float, kind: str) -> Markup:
    parts = ["M0 100"]
    before = 0.0
    for number, level in enumerate(levels):
        y = round(100 - 100 * level / top, 1)
        if level != before:
            parts.append(f"H{number}V{y:g}")
        before = level
    return tag("path", d=f"{''.join(parts)}H{len(levels)}V100Z", class_=kind)

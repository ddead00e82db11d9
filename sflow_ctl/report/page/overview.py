"""The head of the page: how the run ended, its first cause, the numbers that are asked for first, and the critical path. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from protocol.text.counted import counted
from sflow_ctl.core.states import TaskState
from sflow_ctl.report.page.markup import NOTHING, Markup, joined, tag
from sflow_ctl.report.run_report.model import CauseReport, PathStep, RunReport, UsageReport
from sflow_ctl.report.words import duration_text

S = TaskState
_ORDER = (
    *(S.COMPLETED, S.READY, S.RUNNING, S.STARTING, S.STOPPING, S.QUEUED, S.WAITING),
    *(S.SKIPPED, S.CANCELLED, S.LOST, S.TIMEOUT, S.FAILED),
)
_GLYPHS = {
    "completed": "✓",
    "failed": "✕",
    "timeout": "◷",
    "lost": "?",
    "cancelled": "■",
    "skipped": "–",
    "ready": "●",
    "running": "▶",
    "infrastructure": "✕",
    "died": "✕",
    "interrupted": "■",
    "terminated": "■",
    "stopped": "■",
}
OTHER = 0.05
"""The part of a run's time that is worth a word if the critical path does not have it."""
MAX_PATH = 40
"""Steps of the critical path that are shown: the longest ones."""


def pill(word: str) -> Markup:
    """Return a state or an outcome: its word, with a sign and a colour."""
    return tag("span", f"{_GLYPHS.get(word, '○')} {word}", class_=f"pill s-{word}")


def heading(report: RunReport) -> Markup:
    """Return the name of the run and how it stands."""
    run = report.run
    began = datetime.fromtimestamp(run.began_wall_ns / 1e9).astimezone()
    made = datetime.fromtimestamp(run.made_wall_ns / 1e9).astimezone()
    facts = [f"began {began:%Y-%m-%d %H:%M:%S %Z}", f"on {run.host}"]
    if run.job_id is not None:
        facts.append(f"Slurm job {run.job_id}")
    if run.exit_status is not None:
        facts.append(f"exit status {run.exit_status}")
    else:
        facts.append(f"as of {made:%H:%M:%S}")
    if run.resumed_by:
        facts.append(f"resumed {counted(len(run.resumed_by), 'time')}")
    if run.takeovers:
        facts.append(f"controller replaced {counted(run.takeovers, 'time')}")
    return joined(
        [
            tag("h1", run.workflow, " ", pill(run.state)),
            tag("p", tag("code", run.run_id), " · ", " · ".join(facts), class_="sub"),
            tag("p", run.text, class_="sub") if run.exit_status is None and run.text else NOTHING,
        ]
    )


def cause_card(cause: CauseReport | None, name: str = "", run: str = "") -> Markup:
    """Return the first cause, with the name of its run where there are two; nothing for a run that has none."""
    if cause is None:
        return NOTHING
    facts = [("task", cause.task or ""), ("node", cause.node or ""), ("why", cause.why)]
    if cause.attempt is not None and cause.attempt > 1:
        facts.insert(1, ("attempt", str(cause.attempt)))
    if cause.line and cause.line.strip() not in (line.strip() for line in cause.log_tail):
        facts.append(("line", cause.line))
    facts += [("hint", cause.hint), ("log", cause.log)]
    rows = [joined([tag("dt", name), tag("dd", text)]) for name, text in facts if text]
    tail = joined(_marked(line, cause.line) for line in cause.log_tail)
    return tag(
        "section",
        tag("h2", f"First cause of {run}" if run else "First cause"),
        tag("p", cause.text, class_="cause-text"),
        tag("dl", *rows) if rows else NOTHING,
        tag("pre", tail, tabindex="0", aria_label="end of the log") if cause.log_tail else NOTHING,
        tag("p", "Next:", class_="next") if cause.next else NOTHING,
        tag("pre", "\n".join(cause.next), class_="commands") if cause.next else NOTHING,
        class_="card cause",
        id=f"{name}cause",
    )


def _marked(line: str, evidence: str) -> Markup:
    text = f"{line[:500]}\n"
    return tag("mark", text) if evidence and line.strip() == evidence.strip() else joined([text])


def notes(report: RunReport) -> Markup:
    """Return what is missing, and the plan's warnings."""
    items = [tag("li", one) for one in (*report.problems, *report.warnings)]
    if not items:
        return NOTHING
    title = f"{counted(len(items), 'note')}: what could not be read, and warnings of the plan"
    return tag("details", tag("summary", title), tag("ul", *items), class_="card", open=len(items) <= 3)


def tiles(report: RunReport) -> Markup:
    """Return the numbers that are asked for first."""
    return tag("div", *_tiles(report), class_="tiles")


def _tiles(report: RunReport) -> Iterator[Markup]:
    run = report.run
    yield _tile("Duration", duration_text(run.duration_s), "" if run.ended_wall_ns is not None else "so far")
    total = sum(run.counts.values())
    done = run.counts.get("completed", 0)
    said = ", ".join(f"{run.counts[one.value]} {one.value}" for one in _ORDER if one.value in run.counts)
    yield _tile("Tasks", f"{done} of {total}", said, _bar(run.counts, total))
    waits = [(group.ready_after_s.high, group.name) for group in report.groups if group.ready_after_s]
    if waits:
        seconds, name = max(waits)
        yield _tile("Slowest to get ready", duration_text(seconds), name)
    retried = sum(group.retried for group in report.groups)
    if retried:
        yield _tile("Further attempts", str(retried), "after failures and restarts")
    busy = [part for node in report.nodes for part in node.gpu_busy.values()]
    given = sum(node.gpus or 0 for node in report.nodes)
    if busy and given:
        yield _tile("GPUs given to tasks", f"{100 * sum(busy) / given:.0f} %", f"of {given} over the run")
    if report.usage is not None:
        yield from _usage_tiles(report.usage)


def _usage_tiles(usage: UsageReport) -> Iterator[Markup]:
    simulated = "simulated" if usage.is_simulated else ""
    for metric, title in (("gpu", "GPU use"), ("cpu", "CPU use")):
        found = [one.average for one in usage.series if one.metric == metric]
        if found:
            note = simulated if metric == "gpu" else ""
            yield _tile(title, f"{sum(found) / len(found):.0f} %", note or "on average")
    if usage.energy_j is not None:
        yield _tile("GPU energy", energy_text(usage.energy_j), simulated)


def energy_text(joules: float) -> str:
    """Return `250 J`, `1.2 kJ`, `3.4 kWh`."""
    if joules < 1000:
        return f"{joules:.0f} J"
    return f"{joules / 1000:.3g} kJ" if joules < 360_000 else f"{joules / 3.6e6:.3g} kWh"


def _tile(title: str, number: str, note: str = "", more: Markup = NOTHING) -> Markup:
    return tag(
        "div",
        tag("div", title, class_="t"),
        tag("div", number, class_="n"),
        more,
        tag("div", note, class_="d") if note else NOTHING,
        class_="tile",
    )


def _bar(counts: dict[str, int], total: int) -> Markup:
    """Return the states as parts of a bar."""
    parts, at = [], 0.0
    for state in _ORDER:
        width = 100 * counts.get(state.value, 0) / max(1, total)
        if width:
            parts.append(
                tag("rect", x=f"{at:.3f}%", width=f"{width:.3f}%", height=8, class_=f"b-{state.value}")
            )
        at += width
    return tag("svg", *parts, class_="bar", height=8, width="100%", aria_hidden="true")


def critical_path(report: RunReport) -> Markup:
    """Return the steps of the critical path, each with its part of the run's time."""
    steps = report.path
    if not steps:
        return NOTHING
    whole = max(report.run.duration_s, 1e-9)
    longest = sorted(steps, key=lambda one: one.begin_s - one.end_s)[:MAX_PATH]
    shown = [one for one in steps if one in longest]
    rows = [_step(one, whole) for one in shown]
    left = len(steps) - len(shown)
    note = f"{counted(left, 'shorter step')} left out. " if left else ""
    sums = [
        (sum(getattr(one, name) for one in steps), word)
        for name, word in (
            ("queued_s", "waiting for a place"),
            ("startup_s", "starting"),
            ("ran_s", "at work"),
        )
    ]
    rest = whole - sum(seconds for seconds, _ in sums)
    other = (
        f" The other {100 * rest / whole:.0f} % lie between and after these steps."
        if rest >= OTHER * whole
        else ""
    )
    said = ", ".join(f"{word} {100 * seconds / whole:.0f} %" for seconds, word in sums if seconds)
    head = ("Step", "After", "Until", "Begins", "Queued", "Start-up", "At work", "Part", "")
    return tag(
        "section",
        tag("h2", "Critical path"),
        tag("p", f"{note}What the run had to wait for, one after the other: {said}.{other}", class_="sub"),
        table(head, rows, right=(3, 4, 5, 6, 7)),
        id="path",
    )


def _step(step: PathStep, whole: float) -> Sequence[Markup | str]:
    part = 100 * (step.end_s - step.begin_s) / whole
    name = step.task if step.attempt == 1 else f"{step.task} #{step.attempt}"
    bar = tag(
        "svg",
        *_parts(step, whole),
        class_="bar",
        height=10,
        width="100%",
        aria_hidden="true",
    )
    return (
        name,
        {"begin": "begin", "place": "place free", "stop": "end of the run"}.get(step.after, step.after),
        step.until,
        duration_text(step.begin_s),
        *(duration_text(one) if one else "" for one in (step.queued_s, step.startup_s, step.ran_s)),
        f"{part:.0f} %",
        bar,
    )


def _parts(step: PathStep, whole: float) -> Iterator[Markup]:
    at = step.begin_s
    for seconds, kind in ((step.queued_s, "queued"), (step.startup_s, "startup"), (step.ran_s, "live")):
        x, width = 100 * at / whole, 100 * seconds / whole
        if seconds:
            yield tag("rect", x=f"{x:.3f}%", width=f"{max(width, 0.2):.3f}%", height=10, class_=kind)
        at += seconds


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Markup | str]],
    right: Sequence[int] = (),
    **attributes: str | None,
) -> Markup:
    """Return a table; the columns `right` hold numbers. It scrolls by itself where it is too wide."""
    numbers = set(right)
    heads = [
        tag("th", text, scope="col", class_="r" if at in numbers else None) for at, text in enumerate(head)
    ]
    lines = [
        tag("tr", *(tag("td", cell, class_="r" if at in numbers else None) for at, cell in enumerate(row)))
        for row in rows
    ]
    inner = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *lines), **attributes)
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label="table")

"""Rules for probes: one check each, patterns and logs that exist, deadlines only for readiness."""

from collections.abc import Callable, Iterator, Set

from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.rules.names import base_of_logger

Where = Callable[..., str]
Path = tuple[str | int, ...]
PROBE_KINDS = schema.Condition.__struct_fields__


def probe_findings(task: schema.Task, known: Set[str], where: Where) -> Iterator[Finding]:
    """Check both probes of a task; `known` are the names of all tasks."""
    for kind in ("readiness", "failure"):
        whole: Path = ("tasks", task.name, "probes", kind)
        given = None if task.probes is None else getattr(task.probes, kind)
        if given == []:
            what = f'the list of {kind} probes of task "{task.name}" is empty'
            yield Finding("probe-kinds", what, where(*whole), "list at least one probe, or leave it out")
        for index, probe in enumerate(
            given if isinstance(given, list) else () if given is None else (given,)
        ):
            path = (*whole, index) if isinstance(given, list) else whole
            yield from _probe_findings(task, probe, kind, known, where, path)


def _probe_findings(
    task: schema.Task, probe: schema.Probe, kind: str, known: Set[str], where: Where, path: Path
) -> Iterator[Finding]:
    """Check one probe."""
    yield from _one_check(probe, (*PROBE_KINDS, "all", "any"), where(*path))
    if kind == "failure" and probe.deadline is not None:
        what = f'the failure probe of task "{task.name}" has a deadline, which is for readiness'
        hint = "use the task's timeout for a limit"
        yield Finding("probe-deadline", what, where(*path, "deadline"), hint)
    yield from _log_findings(probe, kind, known, where, path)
    yield from _part_findings(task, probe, kind, known, where, path)


def _part_findings(
    task: schema.Task, probe: schema.Probe, kind: str, known: Set[str], where: Where, path: Path
) -> Iterator[Finding]:
    """Check the members of `all` and `any`."""
    for several in ("all", "any"):
        parts: list[schema.Condition] | None = getattr(probe, several)
        if parts is not None and not parts:
            what = f'"{several}" of the {kind} probe of task "{task.name}" is empty'
            yield Finding("probe-kinds", what, where(*path, several), "list at least one check")
        for index, part in enumerate(parts or ()):
            place = (*path, several, index)
            yield from _one_check(part, PROBE_KINDS, where(*place))
            yield from _log_findings(part, kind, known, where, place)


def _one_check(condition: schema.Condition, possible: tuple[str, ...], place: str) -> Iterator[Finding]:
    chosen = [name for name in possible if getattr(condition, name) is not None]
    if len(chosen) != 1:
        what = f"Exactly one probe type must be specified, found {', '.join(chosen) or 'none'}"
        yield Finding("probe-kinds", what, place, f"one of {', '.join(possible)}")


def _log_findings(
    condition: schema.Condition, kind: str, known: Set[str], where: Where, path: Path
) -> Iterator[Finding]:
    watch = condition.log_watch
    if watch is None:
        return
    patterns = (watch.regex_pattern, watch.match_pattern)
    if patterns == (None, None) or (None not in patterns and len(set(patterns)) > 1):
        what = "Either regex_pattern or match_pattern must be given"
        if watch.regex_pattern is not None:
            what = "Only one of regex_pattern and match_pattern may be given, unless both are equal"
        yield Finding("probe-pattern", what, where(*path), "they mean the same; write match_pattern")
    if watch.logger is not None and base_of_logger(watch.logger) not in known:
        what = f'{kind} probe refers to unknown task "{watch.logger}"'
        hint = guess_hint(watch.logger, sorted(known), None)
        yield Finding("unknown-logger", what, where(*path), hint)

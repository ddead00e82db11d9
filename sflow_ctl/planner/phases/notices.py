"""Phase: whom the run tells of its course, from the workflow's `notify`. Problems are findings."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, cast
from urllib.parse import urlsplit

from msgspec.structs import replace

from protocol.messages.rank_spec import HangPolicy
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.plan.copies.task_list import Copies, Part, kinds_of
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.parts.notices import OF_TASKS, PlannedNotice
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.numbers import NumberError, as_seconds
from sflow_ctl.planner.phases.tasks import PlannedTasks
from sflow_ctl.planner.source import PlanInput, Scope

_SLURMS = {"afterok": "run_succeeded", "afternotok": "run_failed", "afterany": "end"}
"""Words of sbatch(1), --dependency, and of mail types of tools around it, for ours."""
_ADDRESS = lazy_pattern(r"[A-Za-z0-9_][A-Za-z0-9._%+-]*(?:@[A-Za-z0-9.-]+)?")
"""Characters that bash leaves alone; a local user has no domain."""
_SEND = 'printf "%s\\n" "$SFLOW_NOTICE_TEXT" "$SFLOW_RUN_COUNTS" "$SFLOW_SUMMARY_FILE" | mail -s "$SFLOW_RUN_ID $SFLOW_NOTICE"'
MAX_TIMEOUT_S = 60.0
"""A run waits so long at its end for what has not been told."""


def plan_notices(
    source: PlanInput, scope: Scope, tasks: Sequence[PlannedTask], findings: Findings
) -> tuple[PlannedNotice, ...]:
    """Resolve the workflow's `notify`; warn of an entry that nothing will ever cause."""
    planned = []
    for index, written in enumerate(source.document.workflow.notify):
        with findings.collecting("workflow", "notify", index, subject=f"workflow.notify[{index}]"):
            planned.append(_notice(written, scope, f"workflow.notify[{index}]"))
    _check_stalls(planned, tasks, findings)
    has_services = any(task.is_service and task.finally_when is None for task in kinds_of(tasks))
    if not has_services and any("ready" in one.on for one in planned):
        where = findings.loaded.where("workflow", "notify")
        what = "notify waits for the run to be ready, and it has no services"
        findings.warn("never-ready", what, where, "use when: [end], or give a task a readiness probe")
    return tuple(planned)


def _notice(written: schema.Notify, scope: Scope, subject: str) -> PlannedNotice:
    if sum((written.command is not None, written.webhook is not None, bool(written.mail))) != 1:
        what = f"{subject} needs a command or a webhook or a mail, one of them"
        raise UnplannableError("conflicting-keys", what, "make an entry for each")
    on = tuple(dict.fromkeys(_SLURMS.get(word, word) for word in written.when or ["end"]))
    if written.task and OF_TASKS.isdisjoint(on):
        what = f"{subject}: task is given, and no event of tasks"
        raise UnplannableError("conflicting-keys", what, "add when: [task_failed], or drop task", ("task",))
    command, webhook = scope.value(written.command), scope.value(written.webhook)
    argv: tuple[str, ...] = ()
    if command is not None:
        argv = tuple(map(str, command)) if isinstance(command, list) else ("bash", "-c", str(command))
        if not argv or not (argv[0] if isinstance(command, list) else str(command)).strip():
            raise UnplannableError("empty-command", f"{subject}: the command is empty", path=("command",))
    elif written.mail:
        argv = _mail(list(map(str, scope.value(written.mail))), subject)
    else:
        _check_url(str(webhook), subject)
    return PlannedNotice(
        on=cast("Any", on),
        command=argv,
        webhook="" if webhook is None else str(webhook),
        tasks=tuple(map(str, scope.value(written.task))) or ("*",),
        timeout_s=_timeout_s(written, scope, subject),
        stalled_s=_stalled_s(written, on, scope, subject),
    )


def _mail(addresses: Sequence[str], subject: str) -> tuple[str, ...]:
    """Return the command that writes to these addresses; the subject of a mail is the name of the event and the run."""
    for address in addresses:
        if not _ADDRESS.fullmatch(address):
            what = f'{subject}: "{address}" is not an address of a mail'
            raise UnplannableError("wrong-value", what, "e.g. you@example.org", ("mail",))
    return ("bash", "-c", f"{_SEND} {' '.join(addresses)}")


def _check_url(url: str, subject: str) -> None:
    """Refuse an address that nothing can be sent to. It is not repeated: such addresses are secrets, as a rule."""
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable()
    except ValueError:
        is_right = False
    if not is_right:
        what = f"{subject}: webhook is not an address that begins with http:// or https://"
        raise UnplannableError("wrong-value", what, "e.g. https://example.org/hook", ("webhook",))


def _stalled_s(written: schema.Notify, on: Sequence[str], scope: Scope, subject: str) -> float | None:
    if ("progress_stalled" in on) != (written.after is not None):
        what = f"{subject}: `after` and the event progress_stalled go together"
        raise UnplannableError(
            "conflicting-keys", what, "e.g. when: progress_stalled, after: 10m", ("after",)
        )
    if written.after is None:
        return None
    try:
        seconds = as_seconds(scope.value(written.after))
        if seconds <= 0:
            raise NumberError("must be more than 0 seconds")
    except NumberError as error:
        raise UnplannableError("wrong-value", f"{subject}: after {error}", path=("after",)) from error
    return seconds


def _check_stalls(notices: Sequence[PlannedNotice], tasks: Sequence[PlannedTask], findings: Findings) -> None:
    """Refuse two limits of silence for one task: its node watches one."""
    for task in kinds_of(tasks):
        limits = {one.stalled_s for one in _about_silence_of(task, notices)}
        if len(limits) > 1:
            times = ", ".join(f"{one:g} s" for one in sorted(filter(None, limits)))
            what = f'notify gives task "{task.base}" several times of silence: {times}'
            where = findings.loaded.where("workflow", "notify")
            findings.add(
                "conflicting-keys", what, where, "give these entries the same `after`, or other tasks"
            )


def _about_silence_of(task: PlannedTask, notices: Sequence[PlannedNotice]) -> list[PlannedNotice]:
    names = (task.name, task.base)
    return [
        one
        for one in notices
        if one.stalled_s is not None
        and any(fnmatchcase(name, pattern) for name in names for pattern in one.tasks)
    ]


def with_silence_watched(planned: PlannedTasks, notices: Sequence[PlannedNotice]) -> PlannedTasks:
    """Return the tasks; those whose silence people want to be told of have it watched on their nodes."""
    if all(one.stalled_s is None for one in notices):
        return planned

    def watched(task: PlannedTask) -> PlannedTask:
        limit = next((one.stalled_s for one in _about_silence_of(task, notices)), None)
        if limit is None:
            return task
        hang = replace(task.hang or HangPolicy(), stalled_s=limit, progress_lines=task.progress)
        return replace(task, hang=hang)

    def of_part(part: Part) -> Part:
        if isinstance(part, Copies):
            return part.like(watched(part.first))
        return watched(part)

    return PlannedTasks([of_part(part) for part in planned.parts], planned.views)


def _timeout_s(written: schema.Notify, scope: Scope, subject: str) -> float:
    try:
        seconds = as_seconds(scope.value(written.timeout))
        if not 0 < seconds <= MAX_TIMEOUT_S:
            raise NumberError(f"must be more than 0 and at most {MAX_TIMEOUT_S:g} seconds, is {seconds:g}")
    except NumberError as error:
        raise UnplannableError("wrong-value", f"{subject}: timeout {error}", path=("timeout",)) from error
    return seconds

"""Phase: whom the run tells of its course, from the workflow's `notify`. Problems are findings."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from sflow_ctl.format import schema
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.parts.notices import PlannedNotice
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.numbers import NumberError, as_seconds
from sflow_ctl.planner.source import PlanInput, Scope

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
    has_services = any(task.is_service and task.finally_when is None for task in kinds_of(tasks))
    if not has_services and any("ready" in one.on for one in planned):
        where = findings.loaded.where("workflow", "notify")
        what = "notify waits for the run to be ready, and it has no services"
        findings.warn("never-ready", what, where, "use when: [end], or give a task a readiness probe")
    return tuple(planned)


def _notice(written: schema.Notify, scope: Scope, subject: str) -> PlannedNotice:
    if (written.command is None) == (written.webhook is None):
        what = f"{subject} needs a command or a webhook, one of them"
        raise UnplannableError("conflicting-keys", what, "make two entries for both")
    command, webhook = scope.value(written.command), scope.value(written.webhook)
    if command is not None:
        argv = tuple(map(str, command)) if isinstance(command, list) else ("bash", "-c", str(command))
        if not argv or not (argv[0] if isinstance(command, list) else str(command)).strip():
            raise UnplannableError("empty-command", f"{subject}: the command is empty", path=("command",))
        return PlannedNotice(on=_on(written), command=argv, timeout_s=_timeout_s(written, scope, subject))
    _check_url(str(webhook), subject)
    return PlannedNotice(on=_on(written), webhook=str(webhook), timeout_s=_timeout_s(written, scope, subject))


def _on(written: schema.Notify) -> Any:
    return tuple(dict.fromkeys(written.when or ["end"]))


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


def _timeout_s(written: schema.Notify, scope: Scope, subject: str) -> float:
    try:
        seconds = as_seconds(scope.value(written.timeout))
        if not 0 < seconds <= MAX_TIMEOUT_S:
            raise NumberError(f"must be more than 0 and at most {MAX_TIMEOUT_S:g} seconds, is {seconds:g}")
    except NumberError as error:
        raise UnplannableError("wrong-value", f"{subject}: timeout {error}", path=("timeout",)) from error
    return seconds

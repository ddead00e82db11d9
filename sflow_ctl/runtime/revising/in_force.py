"""Puts the plan of a revision in force in the shell of a controller; finds the plans that were in force before, for a successor.

The order is what makes it safe: the journal has the request before the files are replaced, and has the answer, and agents
their orders, only afterwards. A controller that is killed in between has a successor that replaces the files.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sflow_ctl.core.commands import ReviseRun
from sflow_ctl.plan.copies.task_list import gang_sizes, tasks_since
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.run_view import RunView, TaskRecord
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.directory import Revision
from sflow_ctl.runtime.record.disk import disk_reason
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.runtime.record.plan_file import PlanFile, encode_plan
from sflow_ctl.runtime.record.plan_growth import (
    append_growth,
    encode_growth,
    growths,
    read_growth,
    recorded_revision,
)
from sflow_ctl.runtime.revising.files import (
    UnusablePlanError,
    plan_in_force,
    read_head,
    read_plan,
    read_revision,
    with_secrets,
)

if TYPE_CHECKING:
    from sflow_ctl.runtime.assembly.parts import Record, Shell
    from sflow_ctl.runtime.run.controller import Controller


def put_in_force(
    record: "Record", shell: "Shell", controller: "Controller", command: ReviseRun, now: float
) -> None:
    """Write the files of a run for another plan, and have everything that shows the run know it."""
    controller.record_keeper.flush(now, syncs_at_once=True)
    plan, old = command.plan, controller.state.plan
    revision = Revision(
        number=plan.revision, wall_ns=time.time_ns(), by=command.by, argv=(), text=command.text
    )
    new = plan.tasks if command.grown is None else tasks_since(plan.tasks, len(old.tasks))
    if command.grown is None or not _is_added(record, plan, old, command.grown, revision):
        problem = write_revision(record, plan, old, revision)
        if problem:
            controller.progress.warn(problem)
    view_plan(controller.state, plan, new)
    if command.grown is None:
        controller.summary.revised(controller.state)
    else:
        controller.summary.grown([task.name for task in new])
    shell.output.gang_sizes.update(gang_sizes(new))


def view_plan(state: RunView, plan: Plan, new: Sequence[PlannedTask]) -> None:
    """Have the view of a run show another plan, of which it may lack some tasks."""
    state.plan = plan
    for task in new:
        if task.name not in state.tasks:
            state.tasks[task.name] = TaskRecord(task.name)


def _is_added(record: "Record", plan: Plan, old: Plan, changed: int, revision: Revision) -> bool:
    """Add what a plan has gained to what is recorded of it; return False where the whole plan has to be written.

    `changed` is the index of the task in whose place the new ones run.
    """
    directory = record.directory
    if directory.recorded_revision is None:  # this controller has taken over
        directory.recorded_revision = recorded_revision(directory.path)
    if directory.recorded_revision != old.revision:
        return False
    directory.recorded_revision = 0  # until all of the line is there
    mask = SECRETS.mask.data if SECRETS.mask else None
    try:
        line = encode_growth(old, plan, changed, revision.text, revision.wall_ns, mask)
        append_growth(directory.path, line)
    except OSError:
        return False  # which says why
    directory.recorded_revision = plan.revision
    return True


def write_revision(record: "Record", plan: Plan, old: Plan, revision: Revision) -> str:
    """Replace the files of a run by those of a revision; return what went wrong, as a sentence, or nothing."""
    directory, facts = record.directory, record.facts
    lineage = record.lineage or facts.incarnation
    try:
        head = None if not plan.source else read_head(directory.path, plan.source)
        if head is None:  # the run has made it itself, of values that it has had from its tasks
            record.facts = replace(facts, revisions=(*facts.revisions, revision))
        else:
            record.facts = replace(
                facts,
                options=head.options,
                sources=head.sources,
                labels=head.labels,
                revisions=(*facts.revisions, replace(revision, argv=head.argv)),
            )
        directory.revise(plan, None if head is None else head.workflow, record.facts, lineage, old)
    except OSError as error:
        reason = disk_reason(error, directory.path / layout.PLAN)
        return f"revision {plan.revision} is in force, but a resume would not have it: {reason.text}"
    except UnusablePlanError as error:
        return f"revision {plan.revision} is in force, but a resume would not have it: {error}"
    return ""


class PlansInForce:
    """The plans that a run has had under the controllers whose scheduler lives on."""

    def __init__(self, directory: Path, lineage: int, newest: Plan) -> None:
        """`newest` is the last plan that is known. Raises: OSError; one of `UNREADABLE`."""
        self._directory, self._newest = directory, newest
        self.first = read_revision(directory / layout.first_plan(lineage)) or self._base()
        """The one that the first of them began with."""

    def of(self, revision: int) -> Plan | None:
        """Return the plan with this number; None if its file is gone. Raises: OSError; one of `UNREADABLE`."""
        known = {plan.revision: plan for plan in (self._newest, self.first)}
        if revision in known:
            return known[revision]
        whole = self._whole(revision)
        if whole is None or whole.head.revision == revision:
            return None if whole is None else whole.plan()
        content = with_secrets(read_growth(self._directory))
        whole.grow(one for one in growths(content, whole.head.revision) if one.revision <= revision)
        return whole.plan() if whole.head.revision == revision else None

    def _base(self) -> Plan:
        """Return the plan that `plan.json` has, without what has been added since."""
        base = read_revision(self._directory / layout.PLAN)
        return self._newest if base is None or base.revision == self._newest.revision else base

    def _whole(self, revision: int) -> PlanFile | None:
        """Return the last plan up to a revision that was written as a whole."""
        numbers = [
            int(path.stem)
            for path in (self._directory / layout.PLANS).glob("[0-9]*.json")
            if path.stem.isdigit()
        ]
        before = max((number for number in numbers if self.first.revision < number <= revision), default=None)
        if before is None:
            content = b"".join(encode_plan(self.first))
        else:
            content = with_secrets(read_regular(self._directory / layout.revision_plan(before)))
        file = PlanFile(content)
        return file if file.head.revision <= revision else None


def newest_plan(directory: Path, plan: Plan) -> Plan:
    """Return a plan, or a newer one that is in force by what the run directory says. Raises: OSError; one of `UNREADABLE`."""
    found = plan_in_force(directory)
    return found if found is not None and found.revision > plan.revision else plan


def as_in_force(directory: Path, old: Plan, plan: Plan, recorded: Callable[[Plan], Plan]) -> Plan:
    """Return the plan of a run's last revision, if `plan` is what that was made from; else `plan`, counted as that.

    `old` is what the run directory has; `recorded` returns a plan without the values of secrets.
    """
    if old.source:
        try:
            applied = read_plan(directory, old.source)
            if b"".join(encode_plan(recorded(applied))) == b"".join(encode_plan(recorded(plan))):
                return plan_in_force(directory)
        except (UnusablePlanError, OSError, *UNREADABLE):
            pass  # its tasks start again, as for any other workflow
    return replace(plan, revision=old.revision, whole=old.revision)


def complete(record: "Record", plan: Plan) -> str:
    """Write what a controller that was killed had no time to write; return what went wrong, as a sentence, or nothing."""
    assert record.state is not None
    old = record.state.plan
    if old.revision == plan.revision:
        return ""
    view_plan(record.state, plan, plan.tasks)
    text = f"revision {plan.revision} applied"
    revision = Revision(number=plan.revision, wall_ns=time.time_ns(), by="", argv=(), text=text)
    return write_revision(record, plan, old, revision)

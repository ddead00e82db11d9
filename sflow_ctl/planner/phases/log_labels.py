"""Phase: which logs have process numbers before their lines, for the probes that read them. Called by the pipeline."""

from msgspec.structs import replace

from protocol.messages.checks import Check, LogCheck, Probe
from protocol.text.process_labels import Labels
from sflow_ctl.plan.copies.task_list import ByName, Copies, Part, kind_of
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.planner.phases.tasks import PlannedTasks


def with_log_labels(planned: PlannedTasks) -> PlannedTasks:
    """Return the tasks with their log probes told which logs have process numbers before their lines."""
    if not any(kind_of(part).probes for part in planned.parts):
        return planned
    by_name = ByName(planned.tasks)

    def labels_of(task: PlannedTask, check: LogCheck) -> Labels:
        if check.task is not None:
            return by_name[check.task].log_labels
        return (
            task.log_labels if task.launch_kind == "step" else "none"
        )  # each rank of a gang has a log of its own

    def told(task: PlannedTask, check: Check) -> Check:
        if not isinstance(check, LogCheck) or (labels := labels_of(task, check)) == "none":
            return check
        return replace(check, pattern=replace(check.pattern, labels=labels))

    def with_told(task: PlannedTask) -> PlannedTask:
        def of(probe: Probe) -> Probe:
            checks = tuple(told(task, one) for one in probe.checks)
            return replace(probe, checks=checks, also=tuple(map(of, probe.also)))

        return replace(task, probes=tuple(map(of, task.probes))) if task.probes else task

    def of_part(part: Part) -> Part:
        if isinstance(part, Copies):
            return part.like(with_told(part.first))
        return with_told(part)

    return PlannedTasks([of_part(part) for part in planned.parts], planned.views)

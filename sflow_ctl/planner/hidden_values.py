"""Keeps values of secrets off command lines, which every user of a node can read, and warns where that cannot be done.

Called by `launch/plan.py` for each task's command, and by the pipeline for the finished tasks.
"""

from collections.abc import Iterator, Mapping, Sequence

from protocol.messages.checks import ExecCheck
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.planner.findings import Findings

SCRIPT_VARIABLE = "SFLOW_TASK_SCRIPT"
"""Has the script of a task whose text holds a secret. The script's interpreter takes it out of its environment."""
_INTERPRETERS = {
    "bash": f'eval "unset {SCRIPT_VARIABLE}; ${SCRIPT_VARIABLE}"',
    "python": f'import os; exec(compile(os.environ.pop("{SCRIPT_VARIABLE}"), "<string>", "exec"))',
}


def without_secrets(
    argv: Sequence[str], script: str, operator_kind: str
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Return a command line, and the environment it needs, that has no secret in its script.

    The script is the last argument, perhaps behind text of ours, and `bash` or `python` reads it.
    """
    mask = SECRETS.mask
    if operator_kind == "plugin" and tuple(argv[-3:-1]) != ("bash", "-c"):
        return tuple(argv), {}  # another program reads the last argument
    if not mask or not argv or script not in argv[-1] or mask.text(argv[-1]) == argv[-1]:
        return tuple(argv), {}
    reader = _INTERPRETERS["python" if operator_kind == "python" else "bash"]
    return (*argv[:-1], reader), {SCRIPT_VARIABLE: argv[-1]}


def warn_of_secrets(tasks: Sequence[PlannedTask], names: Sequence[str], findings: Findings) -> None:
    """Warn of secrets that are not masked everywhere."""
    if not names:
        return
    for name in SECRETS.too_short():
        what = f'the value of secret "{name}" is too short to be masked in texts'
        findings.warn("secret-too-short", what, findings.loaded.secret_where(name), "use a longer value")
    mask, warned = SECRETS.mask, set[str]()
    for task in kinds_of(tasks) if mask else ():
        where = findings.loaded.where("tasks", task.base)
        if task.base not in warned and any(mask.text(word) != word for word in _command_lines(task)):
            warned.add(task.base)
            what = f'task "{task.base}": a command line has the value of a secret, which every user of its node can see'
            findings.warn("secret-on-command-line", what, where, "use the variable's name there")
        if task.is_log_direct:
            what = f'task "{task.base}" prints straight to its log, where secrets are not masked'
            findings.warn("secret-in-direct-log", what, where, "drop log: direct")


def _command_lines(task: PlannedTask) -> Iterator[str]:
    if task.launch_kind != "ssh":
        yield from task.argv
    for probe in task.probes:
        for check in probe.all_checks:
            if isinstance(check, ExecCheck):
                yield from check.argv
    if task.stopping.command is not None:
        yield from task.stopping.command.argv
    if task.hang is not None and task.hang.command is not None:
        yield from task.hang.command.argv
    if task.container is not None:
        yield from (*task.container.extra_args, *task.container.mounts, task.container.image)

"""Makes the command line of a task from its script and operator."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from protocol.errors import Finding
from protocol.messages.rank_spec import Container, LaunchKind
from sflow_ctl.format import schema
from sflow_ctl.format.checking import check
from sflow_ctl.format.merged.extends import overridden
from sflow_ctl.format.rules.operators import operator_findings
from sflow_ctl.plan.parts.launcher import AssignedArgument
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.launch.containers import any_container, docker_container
from sflow_ctl.planner.launch.geometry import STEP_VARIABLES
from sflow_ctl.planner.launch.srun import Step, srun_command
from sflow_ctl.planner.launch.ssh import ssh_command
from sflow_ctl.planner.numbers import as_flag, at

if TYPE_CHECKING:
    from sflow_ctl.planner.launch.plugins import PluginRendering

_STRICT = "set -euo pipefail; "
_FAIL_FAST = "set -e; "
"""Go on the script's first line, so that bash counts lines as the file does."""
_NEEDS_STEP = (
    "mpi", "container_image", "container_name", "gres", "gpus", "gpus_per_task", "mem", "mem_per_cpu",
    "exclusive", "constraint", "extra_args",
)  # fmt: skip
"""Fields of an srun operator that only a real job step can honour."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """How a task's process is started."""

    name: str
    operator_kind: str
    launch_kind: LaunchKind
    argv: tuple[str, ...]
    assigned_arguments: tuple[AssignedArgument, ...] = ()
    cwd: str | None = None
    env: dict[str, str] = {}
    container: Container | None = None


def merged_operator(
    task: schema.Task, operators: Mapping[str, schema.Operator], evaluate: Callable[[Any], Any]
) -> schema.Operator | None:
    """Return the task's operator with its overrides and expressions evaluated; None for the backend's default.

    Raises: UnplannableError.
    """
    if task.operator is None:
        return None
    overrides = {"name": task.operator} if isinstance(task.operator, str) else task.operator
    base = operators[overrides["name"]]
    if len(overrides) == 1 and not _has_text(base):
        return base
    body = overridden(msgspec.structs.asdict(base), overrides)
    body = {key: value for key, value in evaluate(body).items() if value is not None}
    for key in _TEXT_FIELDS:
        if isinstance(body.get(key), int | float) and not isinstance(body.get(key), bool):
            body[key] = str(body[key])
    findings: list[Finding] = []
    operator = check(schema.Operator, body, (), lambda _: None, findings)
    for finding in findings:
        raise _wrong_override(task, base, overrides, finding)
    assert operator is not None
    for finding in operator_findings(operator, lambda *keys: str(keys[0]) if keys else ""):
        raise _wrong_override(task, base, overrides, finding)
    return operator


def _wrong_override(
    task: schema.Task, base: schema.Operator, overrides: Mapping[str, Any], finding: Finding
) -> UnplannableError:
    """Return the error about a changed operator; the finding's place is the key."""
    key = finding.where or ""
    what = finding.what
    if finding.code == "unknown-key" and key in overrides:
        what = f'operator override key(s) not valid for operator "{base.name}" of type {base.type}: {key}'
    path = ("operator", key) if key in overrides else ("operator",)
    return UnplannableError(finding.code, f'task "{task.name}": {what}', finding.hint, path)


def _real_step(
    task: schema.Task, operator: schema.Operator, step: Step | None, script: str
) -> Command | None:
    """Return the job step that a task needs, or None where processes of an agent do. Raises: UnplannableError."""
    wanting = [name for name in _NEEDS_STEP if getattr(operator, name)]
    if not wanting:
        return None
    what = f'task "{task.name}": {", ".join(wanting)} of operator "{operator.name}" need a Slurm job step'
    if step is None:
        raise UnplannableError("needs-slurm", what, "run inside a Slurm allocation", ("operator",))
    if step.spans_components:
        what = (
            f"{what}, but its nodes belong to components {', '.join(step.het_groups)} of a heterogeneous job"
        )
        hint = "choose nodes of one component with resources.nodes.indices"
        raise UnplannableError("step-spans-components", what, hint, ("resources",))
    argv, assigned = srun_command(operator, step, script)
    return Command(
        name=operator.name, operator_kind="srun", launch_kind="step", argv=argv, assigned_arguments=assigned
    )


def _pod_script(
    task: schema.Task, operator: schema.Operator, backend: schema.Backend, script: str
) -> tuple[str, ...]:
    """Return the script of a pod, which is shown and never run. Raises: UnplannableError."""
    if backend.type != "kubernetes":
        what = f'task "{task.name}": operator "{operator.name}" is of type {operator.type}, which sflow-ctl does not run'
        raise UnplannableError("operator-unsupported", what, "choose another operator", ("operator",))
    return ("bash", "-c", script)


def _refuse_python(task: schema.Task, operator: schema.Operator) -> None:
    """Refuse an operator whose scripts are Python for a task that has a function. Raises: UnplannableError."""
    if task.python is not None:
        what = f'task "{task.name}" has python, and its operator "{operator.name}" takes scripts in Python'
        hint = "drop the operator; python has a field interpreter"
        raise UnplannableError("conflicting-keys", what, hint, ("operator",))


def _with_fail_fast(
    task: schema.Task, operator: schema.Operator | None, script: str, *, is_strict: bool
) -> str:
    """Return a script for bash that ends at its first failing line, if the task, its operator or a setting asks for it."""
    if operator is not None and operator.type == "python":
        return script
    if task.strict is not None:
        return f"{_STRICT}{script}" if at(("strict",), as_flag, task.strict) else script
    if task.fail_fast is False:
        return script
    if operator is not None and operator.strict is not None:
        is_strict = at(("operator", "strict"), as_flag, operator.strict)
    return f"{_STRICT}{script}" if is_strict else f"{_FAIL_FAST}{script}" if task.fail_fast else script


_TEXT_FIELDS = ("account", "partition", "qos", "reservation", "job_id", "export", "mpi", "user", "host")


def _has_text(operator: schema.Operator) -> bool:
    return any("${{" in str(value) for value in msgspec.structs.astuple(operator) if value)


def command(
    task: schema.Task,
    operator: schema.Operator | None,
    backend: schema.Backend,
    script: str,
    env: Mapping[str, str],
    directories: Sequence[str],
    step: Step | None,
    engine: str,
    docker_args: Sequence[str] = (),
    *,
    is_strict: bool = False,
    inside: Callable[[str], str] | None = None,
    plugins: "Callable[[], PluginRendering] | None" = None,
) -> Command:
    """Return the command line of one concrete task on an agent; `step` is None away from Slurm.

    `directories` are those that a container sees at the same path as its node; `engine` is that of operators
    that name none, and `docker_args` are more options for `docker run`. `is_strict` is the setting `strict`.
    `inside` makes of the script one that sets up the task's environment, where the agent cannot do that. `plugins` are asked
    for commands of operators of type `plugin`.

    Raises: UnplannableError, NumberError.
    """
    if operator is None:
        kind = "srun" if backend.type == "slurm" else "bash"
        return Command(
            name=f"default_{backend.name}",
            operator_kind=kind,
            launch_kind="process",
            argv=("bash", "-c", _with_fail_fast(task, None, script, is_strict=is_strict)),
        )
    script = _with_fail_fast(task, operator, script, is_strict=is_strict)
    container: Container | None = None
    own_env: dict[str, str] = {}
    cwd: str | None = None
    match operator.type:
        case "bash":
            argv: tuple[str, ...] = ("bash", "-c", script)
        case "python":
            _refuse_python(task, operator)
            argv = (operator.python_exec or "python", *operator.extra_args, "-c", script)
        case "docker" | "docker_run":
            argv, container = (
                ("bash", "-lc", script),
                docker_container(operator, directories, docker_args, is_here=not backend.hosts),
            )
        case "k8s" | "k8s_mpi":
            argv = _pod_script(task, operator, backend, script)
        case "container":
            argv, container = ("bash", "-lc", script), any_container(operator, directories, engine)
        case "ssh":
            more = STEP_VARIABLES if backend.type == "slurm" else ()
            argv, own_env = ssh_command(task.name, operator, inside(script) if inside else script, env, more)
        case "plugin":
            assert plugins is not None
            assert operator.plugin is not None
            argv, own_env = plugins().operator(operator.plugin, operator.options, ("bash", "-c", script))
        case "srun":
            real_step = _real_step(task, operator, step, inside(script) if inside else script)
            if real_step is not None:
                return real_step
            argv, cwd = ("bash", "-c", script), operator.chdir
    return Command(
        name=operator.name,
        operator_kind=operator.type,
        launch_kind="ssh" if operator.type == "ssh" else "process",
        argv=argv,
        cwd=cwd,
        env=own_env,
        container=container,
    )

"""From a script and its operator to a command line."""

import re
import shlex
from collections.abc import Callable
from typing import Any

import msgspec

from protocol.errors import Finding
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_int
from sflow_ctl.planner.srun import srun_argv
from sflow_ctl.spec import schema
from sflow_ctl.spec.checking import check
from sflow_ctl.spec.rules import operator_findings

SSH_SCRIPT = "SFLOW_SSH_SCRIPT"
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*$")
_NEEDS_STEP = (
    "mpi", "container_image", "container_name", "gres", "gpus", "gpus_per_task", "mem", "mem_per_cpu",
    "exclusive", "constraint", "extra_args",
)  # fmt: skip
"""Fields of an srun operator that only a real job step can honour."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The Slurm side of a task: what a real job step of it needs."""

    task: str
    job_id: str
    nodes: tuple[str, ...]
    mounts: tuple[str, ...]


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """How a task's process is started."""

    name: str
    kind: str
    argv: tuple[str, ...]
    cwd: str | None = None
    env: dict[str, str] = {}


def merged_operator(
    task: schema.Task, operators: dict[str, schema.Operator], evaluate: Callable[[Any], Any]
) -> schema.Operator | None:
    """The task's operator with its overrides, expressions evaluated; None for the backend's own. Raises:
    UnplannableError.
    """
    if task.operator is None:
        return None
    overrides = {"name": task.operator} if isinstance(task.operator, str) else task.operator
    base = operators[overrides["name"]]
    if len(overrides) == 1 and not _has_text(base):
        return base
    body: dict[str, Any] = msgspec.structs.asdict(base)
    for key, value in overrides.items():
        if value is not None:
            body[key] = (
                [*body["extra_args"], *value] if key == "extra_args" and isinstance(value, list) else value
            )
    body = {key: value for key, value in evaluate(body).items() if value is not None}
    for key in _TEXT_FIELDS:
        if isinstance(body.get(key), int | float) and not isinstance(body.get(key), bool):
            body[key] = str(body[key])
    findings: list[Finding] = []
    operator = check(schema.Operator, body, (), lambda _: None, findings)
    for finding in findings:
        key = finding.where or ""
        path = ("operator", key) if key in overrides else ("operator",)
        raise UnplannableError(finding.code, f'task "{task.name}": {finding.what}', finding.hint, path)
    assert operator is not None
    for finding in operator_findings(operator, lambda *_: ""):
        raise UnplannableError(
            finding.code, f'task "{task.name}": {finding.what}', finding.hint, ("operator",)
        )
    return operator


_TEXT_FIELDS = ("account", "partition", "qos", "reservation", "job_id", "export", "mpi", "user", "host")


def _has_text(operator: schema.Operator) -> bool:
    return any("${{" in str(value) for value in msgspec.structs.astuple(operator) if value)


def command(
    task: schema.Task,
    operator: schema.Operator | None,
    backend: schema.Backend,
    script: str,
    env: dict[str, str],
    container: str,
    step: Step | None,
) -> Command:
    """The command line of one concrete task on an agent; `step` is None away from Slurm.

    Raises: UnplannableError, NumberError.
    """
    if operator is None:
        kind = "bash" if backend.type == "local" else "srun"
        return Command(name=f"default_{backend.name}", kind=kind, argv=("bash", "-c", script))
    match operator.type:
        case "bash":
            argv: tuple[str, ...] = ("bash", "-c", script)
        case "python":
            argv = (operator.python_exec or "python", *operator.extra_args, "-c", script)
        case "docker":
            argv = _docker(operator, script, env, container)
        case "ssh":
            return _ssh(task, operator, script, env)
        case "srun":
            wanting = [name for name in _NEEDS_STEP if getattr(operator, name)]
            if wanting and step is not None:
                argv = srun_argv(
                    operator,
                    task=step.task,
                    script=script,
                    job_id=step.job_id,
                    nodes=step.nodes,
                    mounts=step.mounts,
                )
                return Command(name=operator.name, kind="srun", argv=argv)
            if wanting:
                what = f'task "{task.name}": {", ".join(wanting)} of operator "{operator.name}" need a Slurm job step'
                raise UnplannableError("needs-slurm", what, "run inside a Slurm allocation", ("operator",))
            return Command(name=operator.name, kind="srun", argv=("bash", "-c", script), cwd=operator.chdir)
    return Command(name=operator.name, kind=operator.type, argv=argv)


def _docker(operator: schema.Operator, script: str, env: dict[str, str], container: str) -> tuple[str, ...]:
    assert operator.image is not None
    argv = ["docker", "run", "--rm", "--name", container]
    if operator.gpus is not None:
        argv += ["--gpus", str(operator.gpus)]
    if operator.workdir is not None:
        argv += ["-w", operator.workdir]
    for mount in operator.mounts:
        argv += ["-v", mount]
    if operator.pass_envs is not False:
        for key in env:
            argv += ["-e", key]
    return (*argv, *operator.extra_args, operator.image, "bash", "-lc", script)


def _ssh(task: schema.Task, operator: schema.Operator, script: str, env: dict[str, str]) -> Command:
    """The remote shell reads its script, with the task's environment, from stdin: nothing of it is on a
    command line.
    """
    assert operator.host is not None
    argv = ["ssh"]
    if operator.port is not None:
        argv += ["-p", str(as_int(operator.port, 1))]
    if operator.identity_file is not None:
        argv += ["-i", operator.identity_file]
    target = f"{operator.user}@{operator.host}" if operator.user else operator.host
    argv += [*operator.extra_args, target, "bash", "-ls"]
    for key in env:
        if not _IDENTIFIER.match(key):
            what = f'task "{task.name}": "{key}" is no name that a remote shell can export'
            raise UnplannableError("wrong-variable-name", what, "rename the variable", ("operator",))
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in env.items())
    wrapper = f'exec {shlex.join(argv)} <<< "${SSH_SCRIPT}"'
    return Command(
        name=operator.name, kind="ssh", argv=("bash", "-c", wrapper), env={SSH_SCRIPT: f"{exports}{script}\n"}
    )

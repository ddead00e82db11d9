"""Plans the environment of a task: the text for bash that sets it up, and the variables that this needs.

Imported for tasks that have one. What bash makes of the text is in `protocol/bootstrap.py`.
"""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from protocol.bootstrap import READER, VALUE
from protocol.messages.rank_spec import Bootstrap
from sflow_ctl.format import schema
from sflow_ctl.format.rules.environments import MODULE_COMMANDS, is_variable_name
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_flag, at
from sflow_ctl.planner.phases.variables import environment_text
from sflow_ctl.planner.placement.placed import PlacedTask

CONTAINED = ("docker", "docker_run", "container")
"""Types of operators whose scripts run in a container."""
SHOWN_CHARACTERS = 160
"""Of a step in a log and in a message."""


def environment_of(
    task: schema.Task, workflow: schema.WorkflowSettings, known: Mapping[str, schema.Environment]
) -> tuple[str, schema.EnvironmentSteps] | None:
    """Return the environment of a task with its name for people; None if it has none."""
    given = task.environment if task.environment is not None else workflow.environment
    if given is None or given == "none":
        return None
    if isinstance(given, str):
        return given, known[given]
    return f"task {task.name}", given


def plan_environment(
    document: schema.Document,
    placed: PlacedTask,
    value: Callable[[Any], Any],
    operator: schema.Operator | None,
) -> tuple[Bootstrap | None, dict[str, str]]:
    """Return what sets up the environment of a placed task, and the variables that it needs; None and nothing without one.

    Raises: UnplannableError, NumberError, ExpressionError.
    """
    task = placed.task
    found = environment_of(task, document.workflow, {one.name: one for one in document.environments})
    if found is None:
        return None, {}
    kind = "" if operator is None else operator.type
    is_contained = kind in CONTAINED or (operator is not None and operator.container_image is not None)
    check_place(task, found[1], kind, is_contained=is_contained)
    return plan_bootstrap(*found, value, hidden_names(placed.replica.sweep))


def plan_bootstrap(
    name: str, steps: schema.EnvironmentSteps, value: Callable[[Any], Any], hidden: tuple[str, ...]
) -> tuple[Bootstrap, dict[str, str]]:
    """Return what sets up an environment, and the variables that it needs; `hidden` are those that differ between replicas.

    Raises: UnplannableError, NumberError, ExpressionError.
    """
    path = ("environment",)
    shared = [
        *(_module(str(value(one))) for one in steps.modules),
        *(_source(one, value) for one in steps.source),
        *_activations(steps, value),
    ]
    values = {str(key): environment_text(value(one)) for key, one in steps.env.items()}
    for key, text in values.items():
        if not is_variable_name(key) or "\0" in text:
            raise UnplannableError("wrong-variable-name", f'"{key}" cannot be a variable', "rename it", path)
    bootstrap = Bootstrap(
        name=name,
        shared="".join(shared),
        variables="".join(map(_variable, values)),
        before="".join(_line(str(value(one))) for one in steps.before),
        hidden=hidden,
        is_each_time=at((*path, "each_time"), as_flag, steps.each_time),
    )
    return bootstrap, {f"{VALUE}{key}": text for key, text in values.items()}


def calling(script: str) -> str:
    """Return a script that sets up its environment first, for bash in a job step or on another machine."""
    return f"exec bash --noprofile --norc -c {shlex.quote(READER)} sflow-environment bash -c {shlex.quote(script)}"


def _step(shown: str, *commands: str) -> str:
    text = "; ".join(shown.split("\n"))
    text = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
    return "\n".join(
        (f"__sflow_step {shlex.quote(text)}", *(f"{one}; __sflow_check" for one in commands), "")
    )


def _module(entry: str) -> str:
    words = entry.split()
    command = words if words and words[0] in MODULE_COMMANDS else ["load", *words]
    return _step(f"module {' '.join(command)}", f"__sflow_modules && module {shlex.join(command)}")


def _source(given: str | schema.SourcedFile, value: Callable[[Any], Any]) -> str:
    path = str(value(given if isinstance(given, str) else given.path))
    args = [] if isinstance(given, str) else [str(value(one)) for one in given.args]
    word = _path(path)
    more = f" {shlex.join(args)}" if args else ""
    return _step(f"source {path}{more}", f"__sflow_readable {word}", f". {word}{more}")


def _activations(steps: schema.EnvironmentSteps, value: Callable[[Any], Any]) -> Iterator[str]:
    if steps.conda is not None:
        name = str(value(steps.conda))
        yield _step(
            f"conda activate {name}", f"__sflow_activate {_path(name) if '/' in name else shlex.quote(name)}"
        )
    if steps.venv is not None:
        path = str(value(steps.venv)).rstrip("/")
        word = _path(path)
        yield _step(f"source {path}/bin/activate", f"__sflow_venv {word}", f". {word}/bin/activate")


def _variable(name: str) -> str:
    missing = "it was not passed"
    lines = f'export {name}="${{{VALUE}{name}?{missing}}}" && unset {VALUE}{name}'
    return f"__sflow_line={shlex.quote(f'env {name}')}\n{lines}; __sflow_check\n"


def _line(line: str) -> str:
    return _step(line, f"set -e; eval {shlex.quote(line)}")


def _path(path: str) -> str:
    """Return a path as a word of bash: below the home directory if it begins so, and never looked for in PATH."""
    if path == "~" or path.startswith("~/"):
        return f'"$HOME"{shlex.quote(path[1:])}'
    return shlex.quote(path if "/" in path else f"./{path}")


def check_place(task: schema.Task, steps: schema.EnvironmentSteps, kind: str, *, is_contained: bool) -> None:
    """Refuse what cannot be set up where the task runs. Raises: UnplannableError."""
    if kind in ("k8s", "k8s_mpi"):
        what = f'task "{task.name}": an environment cannot be set up in a pod'
        raise UnplannableError("environment-place", what, "drop environment", ("environment",))
    if is_contained and steps.modules:
        what = f'task "{task.name}" runs in a container, which has no modules of its node'
        hint = "use an image that has what they load, or an environment without modules; the rest is set up in the container"
        raise UnplannableError("environment-place", what, hint, ("environment",))


def hidden_names(sweep: Sequence[tuple[str, Any]]) -> tuple[str, ...]:
    """Return the swept variables of a replica, which what its node shares must not depend on."""
    return tuple(name for name, _ in sweep if is_variable_name(name))

"""Deferred values: expressions, files and probes of a task that use ports or outputs, filled in when the task starts.

Pure. How to evaluate an expression is not part of it: an `Evaluator` comes from the caller (`format` has the
one of runs). The scheduler calls this once for each attempt.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec

from protocol.messages.checkpoints import CheckpointChoice
from protocol.messages.checks import Probe
from protocol.messages.rank_spec import RequiredFile, RequiredJson, Success, TaskFile
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.task_views import OWN, PlaceOf, PortsOf, TaskPorts, TaskViews, planned_place

Outputs = Mapping[str, Mapping[str, Any]]


Render = Callable[[str, Mapping[str, Any]], str]
"""Replaces the expressions of a text by their values, given the names that they use. Raises: ExpressionError."""


class Evaluator(NamedTuple):
    """How deferred texts are evaluated."""

    text: Render
    """Evaluates a text with `${{ }}` expressions."""
    template: Render
    """Evaluates the content of a file, which is a whole template."""


def _refuse(text: str, _names: Mapping[str, Any]) -> NoReturn:
    raise ExpressionError(f"no evaluator for the expression {text}")


NO_EXPRESSIONS = Evaluator(_refuse, _refuse)
"""The evaluator of plans without deferred values."""


class DeferredValues:
    """Fills in the tasks of a plan. `outputs` are those of completed tasks, `ports_of` returns leased ports."""

    def __init__(
        self,
        plan: Plan,
        outputs: Outputs,
        ports_of: PortsOf,
        evaluator: Evaluator = NO_EXPRESSIONS,
        place_of: PlaceOf = planned_place,
        problems: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`place_of` returns where a task runs that is not where it was planned to be.

        `problems` say why outputs of a task are missing.
        """
        self._evaluator = evaluator
        self._outputs = outputs
        self._problems = {} if problems is None else problems
        self._nodes = plan.nodes
        names = {task.name: [block.name for block in task.ports] for task in plan.tasks if task.ports}
        self._views = TaskViews(plan.task_views, outputs, names, ports_of, place_of=place_of)

    def filled_in(
        self, task: PlannedTask, checkpoint: CheckpointChoice | None = None
    ) -> tuple[PlannedTask, tuple[TaskFile, ...]]:
        """Return the task with its deferred expressions replaced, and its files; `checkpoint` is what it continues from.

        Raises: ExpressionError with the real cause.
        """
        if not task.deferred and not task.files:
            return task, ()
        own: dict[str, Any] = {name: self._views.ports(task.name, name) for name in OWN} if task.ports else {}
        if task.checkpoint is not None:
            from sflow_ctl.plan.parts.checkpoint_view import checkpoint_view  # few tasks have any

            own["checkpoint"] = checkpoint_view(task.checkpoint, checkpoint, task.environment)
        fill = self._filler(task, own)
        filled = task
        if task.deferred:
            filled = msgspec.structs.replace(
                task,
                argv=tuple(map(fill, task.argv)),
                script=fill(task.script),
                env={name: fill(value) for name, value in task.env.items()},
                probes=_probes(task, fill),
                success=None if task.success is None else map_texts(task.success, fill),
                uploads=tuple(
                    msgspec.structs.replace(one, pattern=fill(one.pattern), to=fill(one.to))
                    for one in task.uploads
                ),
            )
        return filled, tuple(
            TaskFile(path=one.path, content=self._content(one.content, one.names, own), mode=one.mode)
            for one in task.files
        )

    def probes_on(
        self, task: PlannedTask, node: int, ports: Mapping[str, tuple[int, ...]]
    ) -> tuple[Probe, ...]:
        """Return the task's probes on a node where its own ports are `ports`. Raises: ExpressionError."""
        here = TaskPorts(self._nodes[node].address, ports)
        views = TaskViews({}, {}, {task.name: tuple(ports)}, lambda _: here)
        own = {name: views.ports(task.name, name) for name in OWN}
        return _probes(task, self._filler(task, own))

    def _filler(self, task: PlannedTask, own: Mapping[str, Any]) -> Callable[[str], str]:
        texts = {
            deferred.placeholder: self._value(self._evaluator.text, deferred.placeholder, deferred.names, own)
            for deferred in task.deferred
        }

        def fill(text: str) -> str:
            for placeholder, value in texts.items():
                text = text.replace(placeholder, value)
            return text

        return fill

    def _content(self, content: str, names: Mapping[str, Any] | None, own: Mapping[str, Any]) -> str:
        return content if names is None else self._value(self._evaluator.template, content, names, own)

    def _value(
        self,
        render: Render,
        text: str,
        names: Mapping[str, Any],
        own: Mapping[str, Any],
    ) -> str:
        try:
            return render(text, {**own, **names, "task": self._views})
        except ExpressionError as error:
            hint = "" if error.hint is None else f" ({error.hint})"
            what = f"{error.text}{hint}; {_described(self._outputs, self._problems)}"
            raise ExpressionError(what) from error


def _probes(task: PlannedTask, fill: Callable[[str], str]) -> tuple[Probe, ...]:
    if not task.deferred or not task.probes:
        return task.probes
    data = [_filled(msgspec.to_builtins(probe), fill) for probe in task.probes]
    for deferred in task.deferred_tcp_ports:
        probe = next(probe for probe in data if probe["kind"] == deferred.key.kind)
        checks = [check for part in (probe, *probe["also"]) for check in part["checks"]]
        checks[deferred.key.number]["port"] = _port(fill(deferred.text))
    return msgspec.convert(data, tuple[Probe, ...])


def _port(text: str) -> int:
    if not (text.strip().isdecimal() and 0 < int(text) < 65536):
        raise ExpressionError(f"the port of a probe is {text!r}, which is not a port number")
    return int(text)


def _filled(data: Any, fill: Callable[[str], str]) -> Any:
    if isinstance(data, str):
        return fill(data)
    if isinstance(data, dict):
        return {key: _filled(value, fill) for key, value in data.items()}
    return [_filled(value, fill) for value in data] if isinstance(data, list | tuple) else data


def _described(outputs: Outputs, problems: Mapping[str, Sequence[str]]) -> str:
    """Say which outputs there are, and why others are missing."""
    parts = []
    for name, values in list(outputs.items())[:5]:
        why = "; ".join(problems.get(name, ())[:3])
        parts.append(f"outputs of {name}: {', '.join(values) or 'none'}" + (f" ({why})" if why else ""))
    return "; ".join(parts) or "no task has outputs"


def map_texts(success: Success, change: Callable[[str], str]) -> Success:
    """Return `success` with `change` applied to each of its texts."""
    return Success(
        files=tuple(RequiredFile(path=change(one.path), min_bytes=one.min_bytes) for one in success.files),
        json=tuple(RequiredJson(path=change(one.path), where=change(one.where)) for one in success.json),
        require=tuple(map(change, success.require)),
        forbid=tuple(map(change, success.forbid)),
    )

"""Deferred values: expressions, files and probes of a task that use ports or outputs, filled in when the task starts.

Pure. How to evaluate an expression is not part of it: an `Evaluator` comes from the caller (`format` has the
one of runs). `DeferredValues.rendered` evaluates, for each attempt, in a thread of the controller (`runtime/renderer.py`);
the scheduler only puts the values in their places (`filled_in`).
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple, NoReturn

import msgspec
from msgspec import Struct

from protocol.messages.checkpoints import CheckpointChoice
from protocol.messages.checks import Probe
from protocol.messages.rank_spec import RequiredFile, RequiredJson, Success, TaskFile
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.task_views import OWN, PlaceOf, PortsOf, TaskPorts, TaskViews, planned_place

Outputs = Mapping[str, Mapping[str, Any]]


Render = Callable[[str, Mapping[str, Any]], str]
"""Replaces the expressions of a text by their values, given the names that they use. Raises: ExpressionError."""


class Evaluator(Struct, frozen=True):
    """How deferred texts are evaluated."""

    text: Render
    """Evaluates a text with `${{ }}` expressions."""
    template: Render
    """Evaluates the content of a file, which is a whole template."""


def _refuse(text: str, _names: Mapping[str, Any]) -> NoReturn:
    raise ExpressionError(f"no evaluator for the expression {text}")


NO_EXPRESSIONS = Evaluator(_refuse, _refuse)
"""The evaluator of plans without deferred values."""


MAX_FILLED = 10_000_000
"""Characters of a task's script, command, environment and files with its values: an order to start is one packet."""


class RenderedTexts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The values of a task's deferred expressions and templates, in the order in which the plan has them."""

    values: tuple[str, ...] = ()
    """Of its expressions."""
    files: tuple[str, ...] = ()
    """The contents of those of its files that are templates."""
    on_nodes: dict[int, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Of its expressions on nodes where its own ports are others, for its probes there."""


class FilledTask(NamedTuple):
    """A task with its deferred values."""

    plan: PlannedTask
    files: tuple[TaskFile, ...]
    probes_on: dict[int, tuple[Probe, ...]]
    """By node, where they differ from those of the plan."""


NO_TEXTS = RenderedTexts()


def needs_rendering(task: PlannedTask) -> bool:
    """Return whether anything of a task has to be evaluated when it starts."""
    return bool(task.deferred) or any(one.names is not None for one in task.files)


def filled_in(task: PlannedTask, texts: RenderedTexts) -> FilledTask:
    """Put values in their places. Raises: ExpressionError for a value that does not fit there, or is too large."""
    if not task.deferred and not task.files:
        return FilledTask(task, (), {})
    filled = task
    if task.deferred:
        fill = _filler(task, texts.values)
        _check_size(task, texts)
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
    contents = iter(texts.files)
    files = tuple(
        TaskFile(path=one.path, content=one.content if one.names is None else next(contents), mode=one.mode)
        for one in task.files
    )
    probes = {node: _probes(task, _filler(task, values)) for node, values in texts.on_nodes.items()}
    return FilledTask(filled, files, probes)


def _check_size(task: PlannedTask, texts: RenderedTexts) -> None:
    """Refuse what would be too large, before any of it is made. Raises: ExpressionError."""
    parts = (*task.argv, task.script, *task.env.values())
    size = sum(map(len, parts)) + sum(map(len, texts.files))
    for deferred, value in zip(task.deferred, texts.values, strict=True):
        size += len(value) * sum(part.count(deferred.placeholder) for part in parts)
    if size > MAX_FILLED:
        largest = max(zip(texts.values, task.deferred, strict=True), key=lambda one: len(one[0]))
        raise ExpressionError(
            f"its script, command, environment and files would have {size} characters with the values of their expressions, and "
            f"may have {MAX_FILLED}; the longest value has {len(largest[0])}: {_shown(largest[1].placeholder)} "
            "(pass it in a file)"
        )


def _filler(task: PlannedTask, values: Sequence[str]) -> Callable[[str], str]:
    texts = {deferred.placeholder: value for deferred, value in zip(task.deferred, values, strict=True)}

    def fill(text: str) -> str:
        for placeholder, value in texts.items():
            text = text.replace(placeholder, value)
        return text

    return fill


def _shown(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."


class DeferredValues:
    """Evaluates the deferred values of tasks. `outputs` are those of completed tasks, `ports_of` returns leased ports."""

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
        self._ports_of, self._place_of = ports_of, place_of
        self._problems = {} if problems is None else problems
        self._nodes = plan.nodes
        names = {task.name: [block.name for block in task.ports] for task in plan.tasks if task.ports}
        self._views = TaskViews(plan.task_views, outputs, names, ports_of, place_of=place_of)

    def of_plan(self, plan: Plan) -> "DeferredValues":
        """Return what fills in the tasks of another plan of the same run."""
        return DeferredValues(
            plan, self._outputs, self._ports_of, self._evaluator, self._place_of, self._problems
        )

    def limited(self, change: Callable[[Evaluator], Evaluator]) -> "DeferredValues":
        """Return the same with a changed evaluator."""
        other = copy(self)
        other._evaluator = change(self._evaluator)
        return other

    def rendered(
        self,
        task: PlannedTask,
        ports: Mapping[int, Mapping[str, tuple[int, ...]]],
        checkpoint: CheckpointChoice | None = None,
    ) -> RenderedTexts:
        """Evaluate the task's deferred expressions and templates; `ports` are its own, by node.

        `checkpoint` is what the attempt continues from.

        What it reads of other tasks is never changed in place, so a thread may call this while the run continues.
        Raises: ExpressionError with the real cause.
        """
        views = self._views
        own: dict[str, Any] = {name: views.ports(task.name, name) for name in OWN} if task.ports else {}
        of_checkpoint: dict[str, Any] = {}
        if task.checkpoint is not None:
            from sflow_ctl.plan.parts.checkpoint_view import checkpoint_view  # few tasks have any

            of_checkpoint["checkpoint"] = checkpoint_view(task.checkpoint, checkpoint, task.environment)
        own |= of_checkpoint
        on_nodes: dict[int, tuple[str, ...]] = {}
        if task.deferred and any(part.on_node == "each" for probe in task.probes for part in probe.parts):
            on_nodes = {
                node: self._values(task, self._own_on(task, node, here) | of_checkpoint)
                for node, here in ports.items()
            }
        return RenderedTexts(
            values=self._values(task, own),
            files=tuple(
                self._value(self._evaluator.template, one.content, one.names, own)
                for one in task.files
                if one.names is not None
            ),
            on_nodes=on_nodes,
        )

    def _own_on(self, task: PlannedTask, node: int, ports: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """Return the task's own ports as expressions on a node see them."""
        here = TaskPorts(self._nodes[node].address, ports)
        views = TaskViews({}, {}, {task.name: tuple(ports)}, lambda _: here)
        return {name: views.ports(task.name, name) for name in OWN}

    def _values(self, task: PlannedTask, own: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(
            self._value(self._evaluator.text, one.placeholder, one.names, own) for one in task.deferred
        )

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

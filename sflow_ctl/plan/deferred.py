"""Deferred values: expressions, files and probes of a task that use ports or outputs, filled in when the task starts.

Pure. How to evaluate an expression is not part of it: an `Evaluator` comes from the caller (`format` has the
one of runs). `DeferredValues.rendered` evaluates, for each attempt, in a thread of the controller (`runtime/renderer.py`);
the scheduler only puts the values in their places (`filled_in`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec
from msgspec import Struct

from protocol.messages.checks import Probe
from protocol.messages.handover import CheckpointChoice, ExpectedInput
from protocol.messages.rank_spec import RequiredFile, RequiredJson, Success, TaskFile
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.parts.cells import BlockStep
from sflow_ctl.plan.results import FoundOf, PlannedInput, ResolvedInput
from sflow_ctl.plan.task_views import OWN, Chunks, PlaceOf, PortsOf, TaskPorts, TaskViews, planned_place
from sflow_ctl.plan.words import Collect

Outputs = Mapping[str, Mapping[str, Any]]
T = TypeVar("T")


Render = Callable[[str, Mapping[str, Any]], str]
"""Replaces the expressions of a text by their values, given the names that they use. Raises: ExpressionError."""


class Evaluator(Struct, frozen=True):
    """How deferred texts are evaluated."""

    text: Render
    """Evaluates a text with `${{ }}` expressions."""
    template: Render
    """Evaluates the content of a file, which is a whole template."""
    value: Callable[[str, Mapping[str, Any]], Any]
    """Evaluates a text whose value stays what it is if the text is one expression."""


def _refuse(text: str, _names: Mapping[str, Any]) -> NoReturn:
    raise ExpressionError(f"no evaluator for the expression {text}")


NO_EXPRESSIONS = Evaluator(_refuse, _refuse, _refuse)
"""The evaluator of plans without deferred values."""


class RenderedTexts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The values of a task's deferred expressions and templates, in the order in which the plan has them."""

    values: tuple[str, ...] = ()
    """Of its expressions."""
    files: tuple[str, ...] = ()
    """The contents of those of its files that are templates."""
    on_nodes: dict[int, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Of its expressions on nodes where its own ports are others, for its probes there."""
    inputs: tuple[ResolvedInput, ...] = ()
    """What it is given, in the order of the plan."""


class FilledTask(NamedTuple):
    """A task with its deferred values."""

    plan: PlannedTask
    files: tuple[TaskFile, ...]
    probes_on: dict[int, tuple[Probe, ...]]
    """By node, where they differ from those of the plan."""
    expected: tuple[ExpectedInput, ...] = ()
    """What the agents have to check before it starts."""


NO_TEXTS = RenderedTexts()


def needs_rendering(task: PlannedTask) -> bool:
    """Return whether anything of a task has to be evaluated when it starts."""
    return bool(task.deferred) or bool(task.inputs) or any(one.names is not None for one in task.files)


def filled_in(task: PlannedTask, texts: RenderedTexts) -> FilledTask:
    """Put values in their places. Raises: ExpressionError for a value that does not fit there, or is too large."""
    if not task.deferred and not task.files and not task.inputs:
        return FilledTask(task, (), {})
    filled = task
    if task.deferred:
        from sflow_ctl.plan.parts.filled_size import check_size  # few tasks have deferred values

        fill = _filler(task, texts.values)
        check_size(task, texts.values, texts.files)
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
    if not task.inputs:
        return FilledTask(filled, files, probes)
    from sflow_ctl.plan.parts import inputs  # few tasks have any

    env, file, expected = inputs.handed(task, texts.inputs)
    filled = msgspec.structs.replace(filled, env={**filled.env, **env})
    return FilledTask(filled, (*files, file), probes, expected)


def _filler(task: PlannedTask, values: Sequence[str]) -> Callable[[str], str]:
    texts = {deferred.placeholder: value for deferred, value in zip(task.deferred, values, strict=True)}

    def fill(text: str) -> str:
        for placeholder, value in texts.items():
            text = text.replace(placeholder, value)
        return text

    return fill


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
        found: FoundOf | None = None,
    ) -> None:
        """`place_of` returns where a task runs that is not where it was planned to be.

        `problems` say why outputs of a task are missing, `found` has what agents have found of them.
        """
        self._found = {} if found is None else found
        self._evaluator = evaluator
        self._outputs = outputs
        self._ports_of, self._place_of = ports_of, place_of
        self._problems = {} if problems is None else problems
        self._nodes, self._blocks = plan.nodes, plan.blocks
        has_ports = any(task.ports for task in kinds_of(plan.tasks))
        with_ports = (task for task in (plan.tasks if has_ports else ()) if task.ports)
        names = {task.name: [block.name for block in task.ports] for task in with_ports}
        collect = {
            kind.base: kind.foreach.collect for kind in kinds_of(plan.tasks) if kind.foreach is not None
        }
        chunks = Chunks.of(plan.tasks, collect, self._found)
        self._views = TaskViews(
            plan.task_views, outputs, names, ports_of, place_of=place_of, collect=collect, chunks=chunks
        )

    def of_plan(self, plan: Plan) -> "DeferredValues":
        """Return what fills in the tasks of another plan of the same run."""
        return DeferredValues(
            plan,
            self._outputs,
            self._ports_of,
            self._evaluator,
            self._place_of,
            self._problems,
            self._found,
        )

    def grown(self, plan: Plan, new: Iterable[PlannedTask]) -> "DeferredValues":
        """Return what fills in the tasks of a plan that has grown by some tasks, and in which others stay as they are."""
        other = copy(self)
        names: dict[str, list[str]] = {}
        collect: dict[str, Collect] = {}
        new = list(new)
        for task in new:
            if task.ports:
                names[task.name] = [block.name for block in task.ports]
            if task.foreach is not None:
                collect[task.base] = task.foreach.collect
        chunks = Chunks.of(new, collect, self._found)
        other._views = self._views.grown(plan.task_views, names, collect, chunks)
        return other

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
        own |= _of_item(task)
        of_checkpoint: dict[str, Any] = {}
        if task.checkpoint is not None:
            from sflow_ctl.plan.parts.checkpoint_view import checkpoint_view  # few tasks have any

            of_checkpoint["checkpoint"] = checkpoint_view(task.checkpoint, checkpoint, task.environment)
        resolved = tuple(self.resolved_input(one, own, task) for one in task.inputs)
        if resolved:
            from sflow_ctl.plan.parts import inputs  # few tasks have any

            directory = task.environment["SFLOW_TASK_OUTPUT_DIR"]
            of_checkpoint[inputs.NAME] = inputs.inputs_view(task.inputs, resolved, directory)
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
                self._value(self._evaluator.template, one.content, one.names, own, f"files.{one.path}")
                for one in task.files
                if one.names is not None
            ),
            on_nodes=on_nodes,
            inputs=resolved,
        )

    def resolved_input(
        self, given: PlannedInput, own: Mapping[str, Any] | None = None, task: PlannedTask | None = None
    ) -> ResolvedInput:
        """Return an input of a task, or an output of the run, with its value now. Raises: ExpressionError."""
        from sflow_ctl.plan.parts import inputs  # few tasks have any

        if not given.is_deferred:
            return inputs.resolved(given, self._outputs, self._found, self._views)
        evaluate, field = self._evaluator.value, f"inputs.{given.name}"
        if given.is_per_item and task is not None and task.item is not None and task.foreach is not None:
            from sflow_ctl.plan.parts.chunks import each_evaluated  # few tasks have chunks

            def of_one(names: Mapping[str, Any]) -> Any:
                return self._value(evaluate, given.value, given.names, {**(own or {}), **names}, field)

            return each_evaluated(given, task.foreach, task.item, of_one)
        return inputs.evaluated(
            given, lambda: self._value(evaluate, given.value, given.names, own or {}, field)
        )

    def items(self, task: PlannedTask) -> list[Any]:
        """Return the items of a list that is known now. Raises: ExpressionError for what is not a list of items."""
        from sflow_ctl.plan.parts.steps import evaluating, late_items  # few tasks have any

        return late_items(task, evaluating(partial(self._value, self._evaluator.value), task, "foreach"))

    def block_step(self, task: PlannedTask) -> BlockStep:
        """Return what follows for a task that stands for a block. Raises: ExpressionError."""
        from sflow_ctl.plan.parts.steps import evaluating, next_step  # few tasks stand for one

        assert task.block is not None
        evaluate = evaluating(partial(self._value, self._evaluator.value), task, "block")
        return next_step(task, self._blocks[task.block.block], evaluate)

    def decided(self, task: PlannedTask) -> tuple[bool, dict[str, str]]:
        """Return whether a task's condition holds, and the values that it was made of. Raises: ExpressionError."""
        from sflow_ctl.plan.parts.conditions import condition_of, shown_operand  # few tasks have any

        when = task.when
        assert when is not None
        own: dict[str, Any] = _of_item(task)
        if task.inputs and "inputs" in when.text:
            from sflow_ctl.plan.parts import inputs

            directory = task.environment["SFLOW_TASK_OUTPUT_DIR"]
            own[inputs.NAME] = inputs.inputs_view(
                task.inputs, [self.resolved_input(one, own, task) for one in task.inputs], directory
            )
        evaluate = self._evaluator.value
        operands: dict[str, str] = {}
        for one in when.operands:
            try:
                operand = self._value(evaluate, f"${{{{ {one} }}}}", when.names, own, "when")
                operands[one] = shown_operand(operand)
            except ExpressionError:
                operands[one] = "undefined"
        return condition_of(self._value(evaluate, when.text, when.names, own, "when")), operands

    def _own_on(self, task: PlannedTask, node: int, ports: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """Return the task's own ports as expressions on a node see them."""
        here = TaskPorts(self._nodes[node].address, ports)
        views = TaskViews({}, {}, {task.name: tuple(ports)}, lambda _: here)
        return {name: views.ports(task.name, name) for name in OWN}

    def _values(self, task: PlannedTask, own: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(
            self._value(
                self._evaluator.text,
                one.placeholder,
                one.names,
                own,
                partial(_field_of, task, one.placeholder),
            )
            for one in task.deferred
        )

    def _value(
        self,
        render: Callable[[str, Mapping[str, Any]], T],
        text: str,
        names: Mapping[str, Any],
        own: Mapping[str, Any],
        field: str | Callable[[], str],
    ) -> T:
        try:
            return render(text, {**own, **names, "task": self._views})
        except ExpressionError as error:
            hint = "" if error.hint is None else f" ({error.hint})"
            what = f"{error.text}{hint}; {_described(self._outputs, self._problems)}"
            raise ExpressionError(what, field=field if isinstance(field, str) else field()) from error


def _field_of(task: PlannedTask, placeholder: str) -> str:
    """Return the field of a task that has an expression, as the file calls it; empty if none has it."""
    if placeholder in task.script:
        return "script"
    for name, value in task.env.items():
        if placeholder in value:
            return f"variables.{name}"
    if any(placeholder in word for word in task.argv):
        return "script" if not task.script else "operator"
    parts = {"probes": task.probes, "success": task.success, "uploads": task.uploads}
    return next((name for name, part in parts.items() if _has(msgspec.to_builtins(part), placeholder)), "")


def _has(data: Any, text: str) -> bool:
    """Return whether a text is somewhere in plain data."""
    if isinstance(data, str):
        return text in data
    members = data.values() if isinstance(data, dict) else data if isinstance(data, list | tuple) else ()
    return any(_has(member, text) for member in members)


def _of_item(task: PlannedTask) -> dict[str, Any]:
    """Return the names of what tells a copy, or the task of a block, from others; none for another task."""
    if task.frame is None and task.item is None:
        return {}
    from sflow_ctl.plan.parts.steps import own_names  # few tasks have any

    return own_names(task)


def _probes(task: PlannedTask, fill: Callable[[str], str]) -> tuple[Probe, ...]:
    if not task.deferred or not task.probes:
        return task.probes
    from sflow_ctl.plan.parts.late_probes import filled_probes  # few tasks have any

    return filled_probes(task, fill)


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

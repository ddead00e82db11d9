"""Adds tasks to a workflow or to a block of one: from fields, from functions, for each item of a list, or for a block."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from pydantic_core import PydanticSerializationError, to_jsonable_python

from protocol.errors import Finding, SpecError
from sflow_ctl.api.expressions import RESULT, Expression, TaskOutput
from sflow_ctl.api.functions import TaskFunction, type_word
from sflow_ctl.format.checking import nearest
from sflow_ctl.format.schema import document, tasks


class Task:
    """A task of a workflow. Made by `Workflow.task` and its like."""

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.name = name
        """Its name, to which other tasks' `depends_on` may refer, as to the task itself."""
        self.fields = fields
        """Its fields, as in a file."""

    def __getitem__(self, field: str) -> Any:
        """Return a field. Raises: KeyError if it is not set."""
        return self.fields[field]

    def output(self, name: str = RESULT) -> TaskOutput:
        """Return an output, as an input for other tasks or for texts. Default: that of a function that returns one value.

        Of a task that is run for each item it is the list of all values, in the order of the items.
        """
        return TaskOutput(self.name, name)

    def each(self, name: str = RESULT) -> TaskOutput:
        """Return an output of a task that is run for each item: for another such task the value for the same item."""
        return TaskOutput(self.name, name, is_same_item=True)

    def __setitem__(self, field: str, value: Any) -> None:
        """Set a field. Raises: SpecError for one that the format does not have."""
        self.fields |= checked_fields(tasks.Task, {field: value}, f'task "{self.name}"')

    def __repr__(self) -> str:
        """Return the name and the fields."""
        return f"Task({self.name!r}, {self.fields!r})"


class TaskGroup:
    """Tasks that name each other: those of a workflow, or of a block."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Its tasks, in the order in which they were added."""
        return tuple(self._tasks.values())

    def __getitem__(self, name: str) -> Task:
        """Return a task. Raises: KeyError."""
        return self._tasks[name]

    def task(
        self,
        name: str,
        script: str | Sequence[str] | None = None,
        *,
        depends_on: "Task | str | Sequence[Task | str | Mapping[str, Any]]" = (),
        **fields: Any,
    ) -> Task:
        """Add a task, and return it.

        Args:
            name: The task's name.
            script: A text, or lines.
            depends_on: Tasks, names, or mappings as in a file.
            **fields: All other fields of the format, by their names there; a trailing underscore is left out (`finally_`).

        Raises: SpecError for a name that is taken, and for fields that the format does not have.
        """
        if name in self._tasks:
            hint = f'change the one that is there: workflow["{name}"]'
            raise SpecError.of("task-twice", f'there is a task "{name}" already', hint=hint)
        given = dict(fields) if script is None else {"script": _script(script), **fields}
        if isinstance(given.get("inputs"), Mapping):
            given["inputs"] = {key: _input(value) for key, value in given["inputs"].items()}
        needed = [depends_on] if isinstance(depends_on, Task | str | Mapping) else list(depends_on)
        if needed:
            given["depends_on"] = [one.name if isinstance(one, Task) else one for one in needed]
        made = Task(name, checked_fields(tasks.Task, given, f'task "{name}"'))
        self._tasks[name] = made
        return made

    def call(self, function: "TaskFunction[..., Any] | Callable[..., Any]", /, **arguments: Any) -> Task:
        """Add a task that calls a Python function, and return it.

        Args:
            function: A function marked with `@task`, or any other one at the top of a module.
            **arguments: Its arguments: values, which are checked against its annotations, outputs of other tasks, or
                expressions.

        Raises: SpecError for arguments that do not fit, and for a name that is taken: `function.options(name=...)`.
        """
        one = _function(function)
        return self.task(one.name, **one.task_fields(arguments))

    def map(
        self,
        function: "TaskFunction[..., Any] | Callable[..., Any]",
        items: "Mapping[str, Sequence[Any] | Expression]",
        /,
        *,
        foreach: Mapping[str, Any] | None = None,
        chunk: int | None = None,
        chunk_parallel: int = 1,
        shuffle: bool | int = False,
        **arguments: Any,
    ) -> Task:
        """Add a task that calls a Python function once for each item of a list, and return it: its outputs are lists.

        Args:
            function: A function, as for `call`.
            items: Parameters to lists of the values that they have, one for each call; values are checked against annotations.
                An output of another task may be such a list. Several lists are gone through together.
            foreach: Further fields of `foreach`: `{"max_parallel": 8}`; `{"product": True}` for all combinations.
            chunk: How many items one task calls the function for, one after the other. Default: one.
            chunk_parallel: How many of those calls run at once, each in a process of its own.
            shuffle: Run the items in a random order; a number is its seed. Lists of outputs are in the order of the items.
            **arguments: Arguments that all calls have in common; `other.each()` is the value of another mapped task for the same
                item.

        Raises: SpecError as `call` does, and for lists of unequal length.
        """
        one, more = _function(function), dict(foreach or {})
        if not items:
            what = f"{one.name} is mapped over no list"
            raise SpecError.of("wrong-argument", what, hint="e.g. workflow.map(square, {'number': [1, 2]})")
        lists = {name: one.item_values(name, values) for name, values in items.items()}
        lengths = {name: len(values) for name, values in lists.items() if isinstance(values, list)}
        if len(set(lengths.values())) > 1 and not more.get("product"):
            listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            what = f"the lists for {one.name} are not equally long: {listed}"
            raise SpecError.of(
                "wrong-argument", what, hint='foreach={"product": True} makes all combinations'
            )
        name = more.get("as", "item")
        of_items = {key: Expression(f"{name}.{key}") for key in items}
        fields = one.task_fields({**arguments, **of_items})
        grouping = {
            **({} if chunk is None else {"chunk": chunk}),
            **({} if chunk_parallel == 1 else {"chunk_parallel": chunk_parallel}),
            **({} if shuffle is False else {"shuffle": {"seed": int(shuffle) if shuffle is not True else 0}}),
        }
        own = {"foreach": {"items": lists, **grouping, **more}}
        return self.task(one.name, **{**fields, **own})

    def use(
        self,
        name: str,
        block: "WorkflowBlock | str",
        /,
        *,
        depends_on: "Task | str | Sequence[Task | str | Mapping[str, Any]]" = (),
        **inputs: Any,
    ) -> Task:
        """Add a task that stands for a block, and return it: its outputs are those of the block.

        Args:
            name: The task's name.
            block: A block of the workflow, or the name of one, also of an included file.
            depends_on: What it waits for beside what its inputs are made of.
            **inputs: What the block is given.
        """
        return self.task(name, depends_on=depends_on, block=_name(block), with_=inputs)

    def repeat(
        self,
        name: str,
        block: "WorkflowBlock | str",
        /,
        *,
        max_iterations: int,
        until: Expression | str | None = None,
        carry: Mapping[str, Any] | None = None,
        succeeds_at_limit: bool = False,
        depends_on: "Task | str | Sequence[Task | str | Mapping[str, Any]]" = (),
        **inputs: Any,
    ) -> Task:
        """Add a task that runs a block again and again, and return it: its outputs are those of the last iteration.

        Args:
            name: The task's name.
            block: As for `use`.
            max_iterations: The largest number of iterations.
            until: The condition on the iteration that has ended after which no other follows: `last.output("done")`.
            carry: Inputs of the next iteration, of `last`; others stay as they are.
            succeeds_at_limit: Whether it is a success if `until` is still false after the last iteration.
            depends_on: As for `use`.
            **inputs: What the first iteration is given.
        """
        loop: dict[str, Any] = {"max_iterations": max_iterations}
        if until is not None:
            loop["until"] = str(until)
        if carry:
            loop["carry"] = dict(carry)
        if succeeds_at_limit:
            loop["at_limit"] = "succeed"
        return self.task(name, depends_on=depends_on, block=_name(block), with_=inputs, loop=loop)

    def _listed(self) -> list[dict[str, Any]]:
        """Return the tasks as a file has them."""
        return [{"name": one.name, **one.fields} for one in self._tasks.values()]


class WorkflowBlock(TaskGroup):
    """Tasks that stand for one, with inputs and outputs of their own. Made by `Workflow.block`."""

    def __init__(self, name: str, inputs: Mapping[str, Any]) -> None:
        super().__init__()
        self.name = name
        self._inputs = {key: _block_input(value) for key, value in inputs.items()}
        self.outputs: dict[str, Any] = {}
        """Its outputs by name: outputs of its tasks, or expressions on them. Set by the program."""

    def input(self, name: str) -> Expression:
        """Return an input, for its tasks. Raises: SpecError for one that it does not have."""
        if name not in self._inputs:
            listed = f"it has {', '.join(self._inputs)}" if self._inputs else None
            raise SpecError.of("unknown-input", f'block "{self.name}" has no input "{name}"', hint=listed)
        return Expression(f"block.inputs.{name}")

    @property
    def iteration(self) -> Expression:
        """The number of the iteration that a task is in, from 0."""
        return Expression("block.iteration")

    def document(self) -> dict[str, Any]:
        """Return the block as a file has it."""
        given = {"name": self.name, "inputs": self._inputs, "outputs": self.outputs, "tasks": self._listed()}
        return checked_fields(document.TaskBlock, {key: one for key, one in given.items() if one}, self.name)

    def __repr__(self) -> str:
        """Return the name and the names of its tasks."""
        return f"<WorkflowBlock {self.name!r}, tasks: {', '.join(self._tasks) or 'none'}>"


def _function(function: "TaskFunction[..., Any] | Callable[..., Any]") -> "TaskFunction[..., Any]":
    return function if isinstance(function, TaskFunction) else TaskFunction(function, None, {})


def _name(block: WorkflowBlock | str) -> str:
    return block.name if isinstance(block, WorkflowBlock) else block


def _block_input(value: Any) -> Any:
    """Return an input of a block as a file has it: a type, a word for one, or a mapping."""
    if isinstance(value, str | Mapping):
        return value
    word = type_word(value)
    return {} if word is None else word


def _script(script: str | Sequence[str]) -> str | list[str]:
    return script if isinstance(script, str) else list(script)


def _input(value: Any) -> Any:
    return value.as_input() if isinstance(value, TaskOutput) else value


# ---------------------------------------------------------------------- values and fields of a file


def field_names(kind: Any) -> list[str]:
    """Return the names of the fields that a part of a file has."""
    return [field.encode_name for field in msgspec.structs.fields(kind)]


def checked_fields(
    kind: Any, given: Mapping[str, Any], whose: str, also: Sequence[str] | set[str] = ()
) -> dict[str, Any]:
    """Return fields by their names in a file, with plain values. Raises: SpecError for unknown ones."""
    known, result, findings = field_names(kind), dict[str, Any](), list[Finding]()
    for key, value in given.items():
        name = key if key in known else key.removesuffix("_")
        if name in known:
            result[name] = plain_value(value)
            continue
        meant = nearest(name, [*known, *also])
        hint = f'did you mean "{meant}"?' if meant else "sflow-ctl schema tells all fields"
        findings.append(Finding("unknown-field", f'{whose} has no field "{name}"', None, hint))
    if findings:
        raise SpecError(findings)
    return result


def _reference(value: Any) -> str:
    """Return what stands for an output in a text. Raises: TypeError for anything else."""
    if isinstance(value, Expression):
        return str(value)
    raise TypeError(f"unable to serialize unknown type: {type(value)}")


def plain_value(value: Any) -> Any:
    """Return a value as lists, mappings, texts and numbers. Raises: SpecError for one that cannot be."""
    try:
        return to_jsonable_python(value, timedelta_mode="float", exclude_none=False, fallback=_reference)
    except (PydanticSerializationError, TypeError) as error:
        what = f"a value of type {type(value).__name__} cannot be written to a file: {error}"
        raise SpecError.of("not-a-value", what, hint="use text, numbers, lists or mappings") from error

"""Builds a workflow in Python: the same document as a YAML file, with the same fields and the same errors."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import msgspec
from pydantic_core import PydanticSerializationError, to_jsonable_python

from protocol.errors import Finding, SpecError
from sflow_ctl.api.functions import RESULT, TaskFunction, TaskOutput
from sflow_ctl.api.models import Model
from sflow_ctl.api.run import Run
from sflow_ctl.api.starting import sflow_ctl
from sflow_ctl.format.checking import nearest
from sflow_ctl.format.schema import definitions, document, tasks
from sflow_ctl.format.yaml_source import dump, read_source, value_of

VERSION = "0.1"


class Job(Model):
    """A Slurm job that was submitted."""

    job_id: str
    """Slurm's number of the job."""
    script: Path
    """The batch script."""


class Task:
    """A task of a workflow. Made by `Workflow.task`."""

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.name = name
        """Its name, to which other tasks' `depends_on` may refer, as to the task itself."""
        self.fields = fields
        """Its fields, as in a file."""

    def __getitem__(self, field: str) -> Any:
        """Return a field. Raises: KeyError if it is not set."""
        return self.fields[field]

    def output(self, name: str = RESULT) -> TaskOutput:
        """Return an output, as an input for other tasks or for texts. Default: that of a function that returns one value."""
        return TaskOutput(self.name, name)

    def __setitem__(self, field: str, value: Any) -> None:
        """Set a field. Raises: SpecError for one that the format does not have."""
        self.fields |= _fields(tasks.Task, {field: value}, f'task "{self.name}"')

    def __repr__(self) -> str:
        """Return the name and the fields."""
        return f"Task({self.name!r}, {self.fields!r})"


class Workflow:
    """A workflow: tasks, variables and what else a file may have. Converts to YAML and back without loss.

    Values may be what JSON has, paths, enumerations, dates, durations (seconds), dataclasses and pydantic models.
    """

    def __init__(self, name: str, *, variables: Mapping[str, Any] | None = None, **fields: Any) -> None:
        """Make one without tasks.

        Args:
            name: The workflow's name.
            variables: Their values, or mappings as in a file, by name.
            **fields: Sections of a file (`backends`, `artifacts`, `operators`, `sweep`, ...), and fields of its `workflow`
                section (`timeout`, `on_failure`, `labels`, ...).

        Raises: SpecError for fields that the format does not have.
        """
        known = set(_names(document.WorkflowSettings))
        settings = {key: value for key, value in fields.items() if key in known}
        sections = {key: value for key, value in fields.items() if key not in known}
        self._sections = _fields(document.Document, sections, "a workflow", also=known)
        if variables is not None:
            self._sections["variables"] = {key: _variable(value) for key, value in variables.items()}
        self._settings = {"name": name, **_plain_fields(settings)}
        self._tasks: dict[str, Task] = {}

    @classmethod
    def from_yaml(cls, source: str | PathLike[str]) -> Self:
        """Return the workflow of a file, or of a text with several lines. Raises: SpecError if it cannot be read."""
        if isinstance(source, str) and "\n" in source:
            data = value_of(source)
        else:
            read, findings = read_source(Path(source))
            if findings:
                raise SpecError(findings)
            data = None if read is None else read.data
        if not isinstance(data, dict) or not isinstance(data.get("workflow"), dict):
            raise SpecError.of("no-workflow", "there is no section `workflow`", where=str(source)[:80])
        return cls._of(copy.deepcopy(data))

    @classmethod
    def _of(cls, data: dict[str, Any]) -> Self:
        settings = dict(data.pop("workflow"))
        made = cls(str(settings.pop("name", "")))
        for name, fields in _tasks_of(settings.pop("tasks", None) or []):
            made._tasks[name] = Task(name, fields)
        made._settings |= settings
        made._sections = data
        return made

    @property
    def name(self) -> str:
        """The workflow's name."""
        return str(self._settings["name"])

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
        needed = [depends_on] if isinstance(depends_on, Task | str) else list(depends_on)
        if needed:
            given["depends_on"] = [one.name if isinstance(one, Task) else one for one in needed]
        made = Task(name, _fields(tasks.Task, given, f'task "{name}"'))
        self._tasks[name] = made
        return made

    def call(self, function: "TaskFunction[..., Any] | Callable[..., Any]", /, **arguments: Any) -> Task:
        """Add a task that calls a Python function, and return it.

        Args:
            function: A function marked with `@task`, or any other one at the top of a module.
            **arguments: Its arguments: values, which are checked against its annotations, or outputs of other tasks.

        Raises: SpecError for arguments that do not fit, and for a name that is taken: `function.options(name=...)`.
        """
        one = function if isinstance(function, TaskFunction) else TaskFunction(function, None, {})
        return self.task(one.name, **one.task_fields(arguments))

    def document(self) -> dict[str, Any]:
        """Return the content of a file, as lists and mappings."""
        listed = [{"name": one.name, **one.fields} for one in self._tasks.values()]
        sections = {"version": VERSION, **self._sections}
        return copy.deepcopy({**sections, "workflow": {**self._settings, "tasks": listed}})

    def to_yaml(self) -> str:
        """Return the workflow as a file."""
        return dump(self.document())

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the workflow to a file, and return its path."""
        Path(path).write_text(self.to_yaml(), encoding="utf-8")
        return Path(path)

    def check(self, *, workspace: str | PathLike[str] | None = None) -> list[Finding]:
        """Return what is wrong with the workflow, as `sflow-ctl validate` finds it, errors first; starts nothing."""
        said = sflow_ctl(["validate", "-", "--json"], self.to_yaml(), directory=workspace, allowed=(0, 2))
        return [
            Finding(one["code"], one["what"], _place(one), one["hint"])
            for one in json.loads(said)["findings"]
        ]

    def run(
        self,
        *,
        is_awaited: bool = True,
        variables: Mapping[str, Any] | None = None,
        workspace: str | PathLike[str] | None = None,
        output_dir: str | PathLike[str] | None = None,
        options: Sequence[str] = (),
    ) -> Run:
        """Run the workflow, here or on the nodes of the Slurm job of this program, and return the run.

        Args:
            is_awaited: Return once it has ended; an interrupt stops it then. Else return once it has begun.
            variables: Values in place of those of the workflow.
            workspace: The tasks' directory, and the base of relative paths. Default: the current directory.
            output_dir: The parent of run directories. Default: as for commands.
            options: Further options of `sflow-ctl run`, as `("--nodes", "2")`.

        Raises: StartError with all findings if it does not begin. A run that fails does not raise: see `Run.status`.
        """
        words = ["run", "-", "--detach", "--json", *_set(variables or {}), *options]
        if output_dir is not None:
            words += ["--output-dir", str(Path(output_dir).absolute())]
        said = sflow_ctl(words, self.to_yaml(), directory=workspace, allowed=(0,))
        run = Run(json.loads(said.splitlines()[-1])["directory"])
        if is_awaited:
            try:
                run.wait()
            except KeyboardInterrupt:
                run.stop()
                run.wait()
                raise
        return run

    def submit(
        self,
        *,
        variables: Mapping[str, Any] | None = None,
        workspace: str | PathLike[str] | None = None,
        options: Sequence[str] = (),
    ) -> Job:
        """Submit a Slurm job that runs the workflow, with `sflow-ctl batch --submit`.

        Args:
            variables: Values in place of those of the workflow.
            workspace: The directory of the job. Default: the current directory.
            options: Further options of `sflow-ctl batch`.

        Raises: StartError.
        """
        words = ["batch", "-", "--submit", "--json", *_set(variables or {}), *options]
        said = json.loads(sflow_ctl(words, self.to_yaml(), directory=workspace, allowed=(0,)))
        (job,) = said["jobs"]
        return Job(job_id=job["job_id"], script=Path(job["script"]))

    def __repr__(self) -> str:
        """Return the name and the number of tasks."""
        return f"<Workflow {self.name!r}, tasks: {', '.join(self._tasks) or 'none'}>"

    def _repr_html_(self) -> str:
        """Return a picture of the graph, for notebooks."""
        from sflow_ctl.api.notebook import workflow_html

        return workflow_html(self.to_yaml())


def _place(one: Mapping[str, Any]) -> str | None:
    field = one["field"]  # without a line: the file is not one of the user's
    return None if field is None else str(field)


def _set(variables: Mapping[str, Any]) -> list[str]:
    return [word for name, value in variables.items() for word in ("--set", f"{name}={_text(value)}")]


def _text(value: Any) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _script(script: str | Sequence[str]) -> str | list[str]:
    return script if isinstance(script, str) else list(script)


def _input(value: Any) -> Any:
    return {"from": value.source} if isinstance(value, TaskOutput) else value


def _variable(value: Any) -> Any:
    plain = _plain(value)
    if isinstance(plain, dict) and plain.keys() <= set(_names(definitions.Variable)) and "value" in plain:
        return plain
    return {"value": plain}


def _tasks_of(tasks: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and fields of the tasks of a file, a list or a mapping by name. Raises: SpecError for anything else."""
    by_name = isinstance(tasks, dict)
    for name, fields in (
        tasks.items() if by_name else enumerate(tasks if isinstance(tasks, list) else [tasks])
    ):
        if not isinstance(fields, dict):
            where = f"workflow.tasks.{name}" if by_name else f"workflow.tasks[{name}]"
            raise SpecError.of("wrong-type", "a task is a mapping of fields", where=where)
        rest = dict(fields)
        yield str(name if by_name else rest.pop("name", "")), rest


def _names(kind: Any) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind)]


def _fields(
    kind: Any, given: Mapping[str, Any], whose: str, also: Sequence[str] | set[str] = ()
) -> dict[str, Any]:
    """Return fields by their names in a file, with plain values. Raises: SpecError for unknown ones."""
    known, result, findings = _names(kind), {}, []
    for key, value in given.items():
        name = key if key in known else key.removesuffix("_")
        if name in known:
            result[name] = _plain(value)
            continue
        meant = nearest(name, [*known, *also])
        hint = f'did you mean "{meant}"?' if meant else "sflow-ctl schema tells all fields"
        findings.append(Finding("unknown-field", f'{whose} has no field "{name}"', None, hint))
    if findings:
        raise SpecError(findings)
    return result


def _plain_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in given.items()}


def _expression(value: Any) -> str:
    """Return what stands for an output in a text. Raises: TypeError for anything else."""
    if isinstance(value, TaskOutput):
        return str(value)
    raise TypeError(f"unable to serialize unknown type: {type(value)}")


def _plain(value: Any) -> Any:
    """Return a value as lists, mappings, texts and numbers. Raises: SpecError for one that cannot be."""
    try:
        return to_jsonable_python(value, timedelta_mode="float", exclude_none=False, fallback=_expression)
    except (PydanticSerializationError, TypeError) as error:
        what = f"a value of type {type(value).__name__} cannot be written to a file: {error}"
        raise SpecError.of("not-a-value", what, hint="use text, numbers, lists or mappings") from error

"""Builds a workflow in Python: the same document as a YAML file, with the same fields and the same errors."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

from protocol.errors import Finding, SpecError
from sflow_ctl.api.building import Task, TaskGroup, WorkflowBlock, checked_fields, field_names, plain_value
from sflow_ctl.api.expressions import Expression, TaskOutput
from sflow_ctl.api.functions import type_word
from sflow_ctl.api.models import Model
from sflow_ctl.api.run import Run
from sflow_ctl.api.starting import sflow_ctl
from sflow_ctl.format.schema import definitions, document, results
from sflow_ctl.format.yaml_source import dump, read_source, value_of

VERSION = "0.1"


class Job(Model):
    """A Slurm job that was submitted."""

    job_id: str
    """Slurm's number of the job."""
    script: Path
    """The batch script."""


class Workflow(TaskGroup):
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
        super().__init__()
        known = set(field_names(document.WorkflowSettings))
        settings = {key: value for key, value in fields.items() if key in known}
        sections = {key: value for key, value in fields.items() if key not in known}
        self._sections = checked_fields(document.Document, sections, "a workflow", also=known)
        if variables is not None:
            self._sections["variables"] = {key: _variable(value) for key, value in variables.items()}
        self._settings = {"name": name, **{key: plain_value(value) for key, value in settings.items()}}
        self._blocks: dict[str, WorkflowBlock] = {}

    @classmethod
    def from_yaml(cls, source: str | PathLike[str]) -> Self:
        """Return the workflow of a file, or of a text with several lines. Raises: SpecError if it cannot be read."""
        if isinstance(source, str) and "\n" in source:
            data = value_of(source)
        else:
            read, findings = read_source(Path(source))
            if findings:
                raise SpecError(findings)
            data = None if read is None else _with_places(read.data, Path(source))
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

    def input(self, name: str, kind: Any = None, **fields: Any) -> Expression:
        """Add an input that the workflow is started with, and return what stands for it.

        Args:
            name: Its name, as in `run(inputs={name: ...})`.
            kind: Its type: a type of Python or a word of the format. Default: any.
            **fields: Further fields: `default`, `required`, `description`.

        Raises: SpecError for fields that the format does not have.
        """
        word = kind if isinstance(kind, str) else type_word(kind)
        given = fields if word is None else {"type": word, **fields}
        made = checked_fields(results.WorkflowInput, given, f'input "{name}"')
        self._settings["inputs"] = {**self._settings.get("inputs", {}), name: made}
        return Expression(f"workflow.inputs.{name}")

    def set_outputs(self, **outputs: Any) -> None:
        """Set the outputs of the whole run: outputs of tasks, expressions, or values."""
        given = {name: _run_output(value) for name, value in outputs.items()}
        self._settings["outputs"] = {**self._settings.get("outputs", {}), **given}

    def block(self, name: str, **inputs: Any) -> WorkflowBlock:
        """Add a block, and return it: its tasks and outputs are added to that.

        Args:
            name: Its name.
            **inputs: Its inputs: types of Python or words of the format, or mappings with `type` and `default`.

        Raises: SpecError for a name that is taken.
        """
        known = self._settings.get("blocks") or ()
        names = known if isinstance(known, dict) else [one.get("name") for one in known]
        if name in self._blocks or name in names:
            raise SpecError.of("block-twice", f'there is a block "{name}" already')
        made = self._blocks[name] = WorkflowBlock(name, inputs)
        return made

    def document(self) -> dict[str, Any]:
        """Return the content of a file, as lists and mappings."""
        sections, settings = {"version": VERSION, **self._sections}, dict(self._settings)
        blocks = [one.document() for one in self._blocks.values()]
        if blocks:
            known = settings.get("blocks") or []
            by_name = {
                one["name"]: {key: part for key, part in one.items() if key != "name"} for one in blocks
            }
            settings["blocks"] = {**known, **by_name} if isinstance(known, dict) else [*known, *blocks]
        return copy.deepcopy({**sections, "workflow": {**settings, "tasks": self._listed()}})

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
        inputs: Mapping[str, Any] | None = None,
        workspace: str | PathLike[str] | None = None,
        output_dir: str | PathLike[str] | None = None,
        options: Sequence[str] = (),
    ) -> Run:
        """Run the workflow, here or on the nodes of the Slurm job of this program, and return the run.

        Args:
            is_awaited: Return once it has ended; an interrupt stops it then. Else return once it has begun.
            variables: Values in place of those of the workflow.
            inputs: Values of the workflow's inputs.
            workspace: The tasks' directory, and the base of relative paths. Default: the current directory.
            output_dir: The parent of run directories. Default: as for commands.
            options: Further options of `sflow-ctl run`, as `("--nodes", "2")`.

        Raises: StartError with all findings if it does not begin. A run that fails does not raise: see `Run.status`.
        """
        words = ["run", "-", "--detach", "--json", *_set(variables or {}), *_given(inputs or {}), *options]
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


def _with_places(data: Any, file: Path) -> Any:
    """Return the content of a file with the paths of files that it includes as seen from anywhere."""
    included = data.get("include") if isinstance(data, dict) else None
    if not isinstance(included, dict):
        return data
    home = file.absolute().parent
    placed = {name: str(home / one) if isinstance(one, str) else one for name, one in included.items()}
    return {**data, "include": placed}


def _place(one: Mapping[str, Any]) -> str | None:
    field = one["field"]  # without a line: the file is not one of the user's
    return None if field is None else str(field)


def _set(variables: Mapping[str, Any]) -> list[str]:
    return [word for name, value in variables.items() for word in ("--set", f"{name}={_text(value)}")]


def _given(inputs: Mapping[str, Any]) -> list[str]:
    texts = {name: _text(value) for name, value in inputs.items()}
    return [
        word
        for name, text in texts.items()
        for word in ("--input", f"{name}={'@' if text.startswith('@') else ''}{text}")
    ]


def _text(value: Any) -> str:
    plain = plain_value(value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _run_output(value: Any) -> Any:
    """Return an output of the run as a file has it."""
    return value.source if isinstance(value, TaskOutput) and not value.is_same_item else plain_value(value)


def _variable(value: Any) -> Any:
    plain = plain_value(value)
    if (
        isinstance(plain, dict)
        and plain.keys() <= set(field_names(definitions.Variable))
        and "value" in plain
    ):
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

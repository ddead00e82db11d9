"""What a task is given by others: planned, and with its values once it starts. Pure.

Values are chosen here, in the controller; files are checked by the agent that starts the task.
"""

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from protocol.messages.handover import (
    PATH_KINDS,
    ExpectedFile,
    ExpectedInput,
    FoundOutput,
    ValueFile,
    ValueType,
)
from protocol.messages.rank_spec import TaskFile
from protocol.text.listing import listed
from protocol.typed_values import WrongTypeError, as_json, typed, typed_text
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.parts.items import gathered
from sflow_ctl.plan.results import FoundOf, InputSource, PlannedInput, ResolvedInput
from sflow_ctl.plan.task_views import NO_CHUNKS, TaskViews

if TYPE_CHECKING:
    from sflow_ctl.plan.model import PlannedTask

NAME = "inputs"
FILE = ".sflow_inputs.json"
"""The file in a task's directory with its inputs as JSON."""
STAGED = ".sflow_inputs"
"""The folder in a task's directory for files that are linked or copied for it."""
FILE_VARIABLE = "SFLOW_INPUTS_FILE"
MAX_VARIABLE = 128 * 1024 - 1
"""Bytes of a variable with its name. Source: Linux, MAX_ARG_STRLEN."""

OutputsOf = Mapping[str, Mapping[str, Any]]
"""Values of outputs, by concrete task and name."""


def resolved(
    given: PlannedInput, outputs: OutputsOf, found: FoundOf, views: TaskViews | None = None
) -> ResolvedInput:
    """Return an input that needs no evaluation, with its value now; `views` know the copies of tasks.

    Raises: ExpressionError that names it.
    """
    if given.path:
        file = ExpectedFile(path=given.path)
        return ResolvedInput(name=given.name, value=given.path, source="the file", files=(file,))
    if not given.sources:
        return of_value(given, given.value, "the file")
    reasons: list[str] = []
    for source in given.sources:
        if source.group:
            copies = () if views is None else tuple(views.copies_of(source.group))
            source = msgspec.structs.replace(source, tasks=copies)
        missing = [name for name in source.tasks if not _has(name, source.output, outputs, found)]
        if len(missing) < len(source.tasks) or (source.is_list and not source.tasks):
            chunks = NO_CHUNKS if views is None else views.chunks
            if chunks.are_of(source.tasks) and (source.is_list or given.is_per_item):
                from sflow_ctl.plan.parts.chunks import of_chunks  # few tasks have chunks

                return of_chunks(given, source, outputs, chunks)
            return _of_source(given, source, outputs, found)
        known = found.get(source.tasks[0], {}).get(source.output) if source.tasks else None
        why = f" ({known.why})" if known is not None and known.why else ""
        reasons.append(f"{source.text} is missing{why}")
    if given.default is not None or not given.is_required:
        return without_value(given)
    raise ExpressionError(f'its input "{given.name}" has no value: {", ".join(reasons)}')


def evaluated(given: PlannedInput, evaluate: Callable[[], Any]) -> ResolvedInput:
    """Return an input whose value is an expression; one that cannot be evaluated is a missing one. Raises: ExpressionError."""
    try:
        return of_value(given, evaluate(), "its expression", is_text=True)
    except ExpressionError:
        if given.default is None and given.is_required:
            raise
        return without_value(given)


def without_value(given: PlannedInput) -> ResolvedInput:
    """Return an input that has no value: its default, or nothing where it need not be there. Raises: ExpressionError."""
    if given.default is None:
        return ResolvedInput(name=given.name, source="nothing", is_absent=True)
    return msgspec.structs.replace(of_value(given, given.default, "default"), is_default=True)


def of_value(given: PlannedInput, value: Any, source: str, *, is_text: bool = False) -> ResolvedInput:
    """Return an input with a value; `is_text` is one that was evaluated inside other text. Raises: ExpressionError."""
    try:
        value = (
            typed_text(value, given.type) if is_text and isinstance(value, str) else typed(value, given.type)
        )
    except WrongTypeError as error:
        raise ExpressionError(f'its input "{given.name}", from {source}: {error}') from None
    return ResolvedInput(name=given.name, value=value, source=source)


def _has(task: str, output: str, outputs: OutputsOf, found: FoundOf) -> bool:
    record = found.get(task, {}).get(output)
    if record is not None and record.is_missing:
        return record.is_default
    return output in outputs.get(task, {})


def _of_source(given: PlannedInput, source: InputSource, outputs: OutputsOf, found: FoundOf) -> ResolvedInput:
    files: list[ExpectedFile] = []
    large: list[ValueFile] = []
    values: list[Any] = []
    digests: list[str] = []
    is_default = False
    there: list[bool] = []
    for task in source.tasks:
        there.append(_has(task, source.output, outputs, found))
        if not there[-1]:
            values.append(None)
            continue
        record = found.get(task, {}).get(source.output)
        if record is not None and record.is_large and given.type not in (None, "path", "paths"):
            kind = None if source.is_list and given.type == "list" else given.type
            large.append(ValueFile(placeholder=placeholder(given, len(values)), path=record.path, type=kind))
            values.append(LARGE)
        else:
            values.append(outputs.get(task, {}).get(source.output))
        if record is None:
            continue
        is_default = is_default or record.is_default
        digests.append(record.sha256)
        files += expected_files(record)
    try:
        value = (
            typed_list(given, source, values, there) if source.is_list else typed_value(values[0], given.type)
        )
    except WrongTypeError as error:
        raise ExpressionError(f'its input "{given.name}", from {source.text}: {error}') from None
    return ResolvedInput(
        name=given.name,
        value=with_placeholders(value, large),
        source=source.text,
        is_default=is_default,
        large=tuple(large),
        files=tuple(files),
        sha256=digests[0] if len(digests) == 1 else "",
    )


def typed_list(given: PlannedInput, source: InputSource, values: list[Any], there: list[bool]) -> list[Any]:
    """Return the values of several copies; the type is that of each, but `list` and `paths`.

    Raises: WrongTypeError; ExpressionError if one is missing that must not be.
    """
    if source.collect == "fail" and not all(there):
        lacking = [str(index) for index, here in enumerate(there) if not here]
        what = f'its input "{given.name}": {source.text} is missing for item {listed(lacking, 5)}'
        raise ExpressionError(f"{what}, and its list is collect: fail")
    if given.type not in (None, "list"):
        each: ValueType | None = "path" if given.type == "paths" else given.type
        values = [None if one is None else typed_value(one, each) for one in values]
    return gathered(values, there, source.collect)


# ---------------------------------------------------------------------- values that are too large for messages

LARGE = object()
"""Stands for one while types are looked at: the agent looks at its type."""


def typed_value(value: Any, kind: ValueType | None) -> Any:
    """Return a value of a type; one that is too large here is left. Raises: WrongTypeError."""
    return value if value is LARGE else typed(value, kind)


def placeholder(given: PlannedInput, index: int) -> str:
    """Return what stands for a large value of an input in the file with all of them."""
    return f"\x01sflow:large:{given.name}:{index}\x01"


def with_placeholders(value: Any, large: Sequence[ValueFile]) -> Any:
    """Return a value with the placeholders of the files that have parts of it."""
    rest = iter(large)

    def filled(one: Any) -> Any:
        if isinstance(one, dict):
            return {name: filled(part) for name, part in one.items()}
        return next(rest).placeholder if one is LARGE else one

    if not large:
        return value
    return [filled(one) for one in value] if isinstance(value, list) else filled(value)


class _Seen(dict[str, Any]):
    """Values of inputs for expressions; one that is too large for messages is refused when it is used."""

    def __init__(self, values: Mapping[str, Any], large: Collection[str]) -> None:
        super().__init__(values)
        self._large = large

    def __getitem__(self, name: str) -> Any:
        if name in self._large:
            hint = "read it from $SFLOW_INPUTS_FILE, or give the input the type path"
            raise ExpressionError(f'the value of its input "{name}" is too large for expressions', hint)
        return super().__getitem__(name)


def expected_files(record: FoundOutput) -> list[ExpectedFile]:
    """Return the files of an output as they must be found."""
    if record.kind not in PATH_KINDS and not record.is_large:
        return []
    files = [
        ExpectedFile(path=one.path, bytes=one.bytes, mtime_ns=one.mtime_ns, sha256=one.sha256)
        for one in record.files
    ]
    return [*files, ExpectedFile(path=record.path)] if record.kind == "manifest" else files


# ---------------------------------------------------------------------- how a task sees them


def staged_path(given: PlannedInput, path: str, directory: str) -> str:
    """Return where a file of an input is for the task alone: in its own directory, or on a disk of the node."""
    name = path.rstrip("/").rpartition("/")[2]
    if given.stage == "local":
        task = directory.rstrip("/").rpartition("/")[2]
        return f"{given.scratch}/{task}/{given.name}/{name}"
    return f"{directory}/{STAGED}/{given.name}/{name}"


def seen_value(given: PlannedInput, value: ResolvedInput, directory: str) -> Any:
    """Return the value as the task has it: of a staged file the path in its own directory."""
    if given.stage is not None and isinstance(value.value, str) and value.value:
        return staged_path(given, value.value, directory)
    return value.value


def argument_text(given: PlannedInput, value: Any) -> str:
    """Return an input's option with its value, quoted for a shell; empty without a value."""
    if given.argument is None or value is None or value is False:
        return ""
    if value is True:
        return given.argument
    words = value if isinstance(value, list) else [value]
    return " ".join([given.argument, *(shlex.quote(text_of(one)) for one in words)])


def text_of(value: Any) -> str:
    """Return a value as a variable or an argument has it: texts as they are, nothing for null, the rest as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(as_json(value)).decode()


def inputs_view(
    planned: Sequence[PlannedInput], values: Sequence[ResolvedInput], directory: str
) -> dict[str, Any]:
    """Return the namespace `inputs`: values by name, and their options as `args` and, one by one, in `arg`."""
    seen = {one.name: seen_value(one, value, directory) for one, value in zip(planned, values, strict=True)}
    large = {one.name for one in values if one.large}
    for one in planned:
        if one.name in large and one.argument is not None:
            hint = "give the input the type path, and let the program read the file"
            raise ExpressionError(f'the value of its input "{one.name}" is too large for an option', hint)
    arguments = {one.name: argument_text(one, seen[one.name]) for one in planned}
    view = {**seen, "arg": arguments, "args": " ".join(filter(None, arguments.values()))}
    return _Seen(view, large) if large else view


def input_variables(
    planned: Sequence[PlannedInput], values: Sequence[ResolvedInput], directory: str
) -> dict[str, str]:
    """Return the variables of an attempt. An absent value is an empty one: the caller's environment may have another.

    A value that is too long for a variable is only in the file.
    """
    result = {FILE_VARIABLE: f"{directory}/{FILE}"}
    for one, value in zip(planned, values, strict=True):
        text = text_of(seen_value(one, value, directory))
        is_too_long = bool(value.large) or len(text.encode()) + len(one.variable) > MAX_VARIABLE
        result[one.variable] = "" if is_too_long else text
    return result


def inputs_document(planned: Sequence[PlannedInput], values: Sequence[ResolvedInput], directory: str) -> str:
    """Return the content of the file with all inputs: `values` for programs, `inputs` with where they are from."""
    seen = {one.name: seen_value(one, value, directory) for one, value in zip(planned, values, strict=True)}
    document = {
        "schema": "sflow.inputs.v1",
        "values": as_json(seen),
        "inputs": {
            one.name: {
                "from": one.source,
                "is_default": one.is_default,
                "is_absent": one.is_absent,
                **({"sha256": one.sha256} if one.sha256 else {}),
                **({"is_per_item": True, "lacking": list(one.lacking)} if given.is_per_item else {}),
            }
            for given, one in zip(planned, values, strict=True)
        },
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def expected_inputs(
    planned: Sequence[PlannedInput], values: Sequence[ResolvedInput], directory: str
) -> tuple[ExpectedInput, ...]:
    """Return what the agents have to check and to stage before the attempt starts."""
    expected = []
    for one, value in zip(planned, values, strict=True):
        path = value.value if isinstance(value.value, str) else ""
        stage = one.stage if path else None
        if value.files or stage is not None:
            expected.append(
                ExpectedInput(
                    name=one.name,
                    source=value.source,
                    path=path if stage is not None else "",
                    files=value.files,
                    stage=stage,
                    target=staged_path(one, path, directory) if stage is not None else "",
                    values=value.large,
                )
            )
    return tuple(expected)


class Handed(NamedTuple):
    """What an attempt has of its inputs."""

    variables: dict[str, str]
    file: TaskFile
    expected: tuple[ExpectedInput, ...]


def handed(task: "PlannedTask", values: Sequence[ResolvedInput]) -> Handed:
    """Return the variables of a task's inputs, the file that has all of them, and what its agents have to check."""
    directory = task.environment["SFLOW_TASK_OUTPUT_DIR"]
    large = tuple(one for value in values for one in value.large)
    content = inputs_document(task.inputs, values, directory)
    file = TaskFile(path=FILE, content=content, is_in_task_directory=True, values=large)
    return Handed(
        input_variables(task.inputs, values, directory),
        file,
        expected_inputs(task.inputs, values, directory),
    )

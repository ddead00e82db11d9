"""Rules for the inputs of tasks: names, one source each, and types that fit. Whether outputs exist is found when planning."""

from collections.abc import Callable, Iterator
from typing import Any

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from protocol.typed_values import WrongTypeError, typed
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import has_expression
from sflow_ctl.format.rules.handover.outputs import MAX_NAME, NAME, NAME_HINT

Where = Callable[..., str]
RESERVED = ("arg", "args")
"""Names of what expressions have beside the inputs: their options."""
_VARIABLE = lazy_pattern(r"[A-Za-z_]\w*")
_ARGS = lazy_pattern(r"\$\{\{[^}]*\binputs\s*\.\s*args?\b")
_FROM = "TASK.outputs.NAME"


def variable_of(name: str, given: schema.Input) -> str:
    """Return the environment variable of an input."""
    return f"INPUT_{name.upper()}" if given.env is None else given.env


def input_findings(task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check the inputs of a task."""
    variables: dict[str, str] = {}
    for name, given in task.inputs.items():
        place = ("tasks", task.name, "inputs", name)
        whose = f'input "{name}" of task "{task.name}"'
        if not NAME.fullmatch(name) or len(name) > MAX_NAME or name in RESERVED:
            what = f'"{name}" of task "{task.name}" cannot be the name of an input'
            hint = f"inputs.{name} has another meaning in expressions" if name in RESERVED else NAME_HINT
            yield Finding("unsafe-name", what, where(*place), hint)
        for field, what, hint in _problems(given):
            yield Finding("wrong-input", f"{whose} {what}", where(*place, *((field,) if field else ())), hint)
        variable = variable_of(name, given)
        if not has_expression(variable):
            other = variables.setdefault(variable, name)
            if other != name:
                what = (
                    f'inputs "{other}" and "{name}" of task "{task.name}" would be one variable, {variable}'
                )
                yield Finding("wrong-input", what, where(*place), "give one of them an env of its own")


def _problems(given: schema.Input) -> Iterator[tuple[str, str, str]]:
    """Yield (field, what, hint)."""
    given_by = {"from": given.source or None, "path": given.path, "value": given.value}
    chosen = [field for field, value in given_by.items() if value is not None]
    if len(chosen) != 1:
        found = " and ".join(chosen) or "none"
        yield "", f"needs exactly one of from, path and value, found {found}", f"e.g. from: {_FROM}"
    for source in given.source:
        task, _, output = source.rpartition(".outputs.")
        if not (task and NAME.fullmatch(output)):
            yield "from", f'is from "{source}", which is not an output', f"write {_FROM}"
    if len(given.source) > 1 and given.pick is None:
        yield "from", "has several sources", "add pick: first_available, or make an input of each"
    if given.pick is not None and len(given.source) < 2:
        yield "pick", "has pick, and not several sources", "drop pick"
    if given.env is not None and not has_expression(given.env):
        if not _VARIABLE.fullmatch(given.env):
            yield "env", f'has the env "{given.env}", which cannot be the name of a variable', "e.g. CKPT"
        elif given.env.startswith("SFLOW_"):
            yield "env", f'has the env "{given.env}", which is a reserved name', "e.g. CKPT"
    if given.stage is not None and (given.value is not None or given.type not in (None, "path")):
        yield "stage", "has stage, which is for files", "drop stage"
    yield from _type_problems(given)


def _type_problems(given: schema.Input) -> Iterator[tuple[str, str, str]]:
    if given.path is not None and given.type not in (None, "path"):
        yield "type", f"is a path, and has type {given.type}", "leave it out"
    for field in ("value", "default"):
        value: Any = getattr(given, field)
        if value is None or given.type is None or (isinstance(value, str) and has_expression(value)):
            continue
        try:
            typed(value, given.type)
        except WrongTypeError as error:
            yield field, f"has a {field} of another type: {error}", f"correct {field} or type"
    if given.value is not None and given.default is not None:
        yield "default", "has a value, so its default is never used", "drop default"


def unused_input_arguments(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Find options of inputs that no script uses: warnings."""
    for task in document.workflow.tasks:
        named = [name for name, given in task.inputs.items() if given.arg is not None]
        if named and _ARGS.search(repr(task)) is None:
            what = f'arg of input "{named[0]}" of task "{task.name}" has no effect: nothing in it uses inputs.args'
            hint = "write ${{ inputs.args }} in its script, where the options belong"
            yield Finding("unused-key", what, where("tasks", task.name, "inputs", named[0], "arg"), hint)

"""Makes tasks of Python functions: their annotations become inputs and outputs. Imports nothing that takes time.

A module with decorated functions is imported again by each of their tasks, in the interpreter that runs them.
"""

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from protocol.errors import Finding, SpecError
from sflow_ctl.api.expressions import RESULT, Expression, TaskOutput

if TYPE_CHECKING:
    import pydantic

P = ParamSpec("P")
R = TypeVar("R")
_TYPES: dict[Any, str] = {int: "int", float: "float", str: "str", bool: "bool", list: "list", dict: "dict"}


class TaskFunction(Generic[P, R]):
    """A function that can be a task. Called directly it is the function itself."""

    def __init__(self, function: Callable[P, R], name: str | None, fields: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        """The function as it was written."""
        self.name = name or function.__name__
        """The task's name."""
        self.fields = dict(fields)
        """Further fields of the task, as in a file."""

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        """Call the function here and now."""
        return self.function(*arguments, **named)

    def options(self, *, name: str | None = None, **fields: Any) -> "TaskFunction[P, R]":
        """Return the same function with another name or other fields for its task."""
        return TaskFunction(self.function, name or self.name, {**self.fields, **fields})

    def input_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the arguments."""
        return self._model().model_json_schema()

    def task_fields(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the task that calls the function. Raises: SpecError for arguments that do not fit."""
        return {
            "python": self._place(),
            "inputs": self._inputs(arguments),
            "outputs": self._outputs(),
            **self.fields,
        }

    # ------------------------------------------------------------------ where it is

    def _place(self) -> dict[str, str]:
        """Return the function's module or file, for the interpreter of this program. Raises: SpecError."""
        module, name = self.function.__module__, self.function.__qualname__
        if "<" in name:
            what = f"{name} is inside of another function, where a task cannot find it"
            raise SpecError.of("no-module", what, hint="define it at the top of its module")
        if "." in module:
            return {"module": f"{module}:{name}", "interpreter": sys.executable}
        file = inspect.getsourcefile(self.function)
        if file is None or not Path(file).is_file():
            what = f"{name} is in no file, where a task could find it"
            raise SpecError.of("no-module", what, hint="write it to a module, for example with %%writefile")
        return {"file": str(Path(file).resolve()), "function": name, "interpreter": sys.executable}

    # ------------------------------------------------------------------ what it takes and gives

    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.function, include_extras=True)

    def _model(self) -> "type[pydantic.BaseModel]":
        from pydantic import ConfigDict, create_model

        hints, fields = self._hints(), {}
        for name, one in inspect.signature(self.function).parameters.items():
            if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                fields[name] = (hints.get(name, Any), ... if one.default is one.empty else one.default)
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
        made: type[pydantic.BaseModel] = create_model(self.function.__name__, __config__=config, **fields)  # type: ignore[call-overload]
        return made

    def _inputs(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        from pydantic import TypeAdapter, ValidationError

        parameters, hints = inspect.signature(self.function).parameters, self._hints()
        findings = list(self._wrong_names(arguments))
        result: dict[str, Any] = {}
        for name, value in arguments.items():
            if name not in parameters:
                continue
            hint = hints.get(name, Any)
            kind = type_word(hint)
            typed = {} if kind is None else {"type": kind}
            if isinstance(value, Expression):
                given = value.as_input() if isinstance(value, TaskOutput) else {"value": str(value)}
                result[name] = {**given, **typed}
                continue
            adapter = TypeAdapter(hint)
            try:
                checked = adapter.validate_python(value)
            except ValidationError as error:
                said = "; ".join(one["msg"] for one in error.errors())
                findings.append(Finding("wrong-argument", f"{self.name}: {name} is {value!r}: {said}"))
                continue
            plain = adapter.dump_python(checked, mode="json")
            result[name] = (
                {"value": plain, **typed} if plain is not None else {"required": False, "default": None}
            )
        if findings:
            raise SpecError(findings)
        return result

    def item_values(self, name: str, values: Any) -> Any:
        """Return the values that a parameter has in all calls, checked, or what stands for them. Raises: SpecError."""
        from pydantic import TypeAdapter, ValidationError

        if isinstance(values, Expression):
            return values
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            what = f"{self.name}: the values of {name} are {values!r}, which is not a list"
            raise SpecError.of("wrong-argument", what)
        hint = self._hints().get(name, Any)
        adapter, findings, result = TypeAdapter(hint), list[Finding](), []
        for index, value in enumerate(values):
            if isinstance(value, Expression):
                result.append(value)
                continue
            try:
                result.append(adapter.dump_python(adapter.validate_python(value), mode="json"))
            except ValidationError as error:
                said = "; ".join(one["msg"] for one in error.errors())
                what = f"{self.name}: {name} of item {index} is {value!r}: {said}"
                findings.append(Finding("wrong-argument", what))
        if findings:
            raise SpecError(findings)
        return result

    def _wrong_names(self, arguments: Mapping[str, Any]) -> typing.Iterator[Finding]:
        parameters = inspect.signature(self.function).parameters
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        names = [name for name, one in parameters.items() if one.kind not in variadic]
        for name in arguments:
            if name not in names:
                yield Finding(
                    "wrong-argument", f"{self.name} has no parameter {name}; it has {', '.join(names)}"
                )
        for name in names:
            if name not in arguments and parameters[name].default is inspect.Parameter.empty:
                yield Finding("wrong-argument", f"{self.name} needs an argument {name}")

    def _outputs(self) -> dict[str, Any]:
        hint = self._hints().get("return", None)
        if hint in (None, type(None)):
            return {}
        return {name: _output(kind) for name, kind in (_fields_of(hint) or {RESULT: hint}).items()}


def _output(hint: Any) -> dict[str, Any]:
    kind = type_word(hint)
    return {"kind": "param"} if kind is None else {"kind": "param", "type": kind}


def _fields_of(hint: Any) -> dict[str, Any]:
    """Return the names and types of a class with fields: dataclass, TypedDict, NamedTuple, pydantic model; else nothing."""
    has_fields = (
        hasattr(hint, "__dataclass_fields__")
        or hasattr(hint, "model_fields")
        or hasattr(hint, "_fields")
        or typing.is_typeddict(hint)
    )
    return typing.get_type_hints(hint) if has_fields and isinstance(hint, type) else {}


def type_word(hint: Any) -> str | None:
    """Return the word of the format for a type; None if there is none."""
    if typing.get_origin(hint) is typing.Annotated:
        return type_word(typing.get_args(hint)[0])
    origin = typing.get_origin(hint) or hint
    if isinstance(origin, type) and issubclass(origin, Path):
        return "path"
    return _TYPES.get(origin) if isinstance(origin, type) else None


@overload
def task(function: Callable[P, R], /) -> TaskFunction[P, R]: ...
@overload
def task(*, name: str | None = None, **fields: Any) -> Callable[[Callable[P, R]], TaskFunction[P, R]]: ...
def task(function: Callable[..., Any] | None = None, /, *, name: str | None = None, **fields: Any) -> Any:
    """Mark a function as one that can be a task: `@task`, or `@task(retries=2, resources=...)`.

    Args:
        function: The function.
        name: The task's name. Default: the function's.
        **fields: Further fields of the task, as in a file.
    """
    if function is not None:
        return TaskFunction(function, name, fields)
    return lambda one: TaskFunction(one, name, fields)

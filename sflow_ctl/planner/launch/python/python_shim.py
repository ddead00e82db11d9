"""Calls a Python function as a task: `python -c SOURCE FUNCTION`. The source of this file travels to the node.

FUNCTION is `package.module:name` or `path/file.py:name`; its arguments are the task's inputs, its result the task's outputs. The
standard library of Python 3.8 is all it needs: the interpreter is the user's, which has nothing of ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

TRANSIENT, FATAL = 75, 64
"""Exit statuses of failures that may pass by themselves, and of others. Source: sysexits.h, EX_TEMPFAIL, EX_USAGE."""
SOURCE_VARIABLE = "SFLOW_PYTHON_TASK"
OUTPUTS_VARIABLE = "SFLOW_PYTHON_OUTPUTS"
"""Has the names of the outputs that the function returns, as JSON."""
PACKAGES_VARIABLE = "SFLOW_PYTHON_PACKAGES"
"""Has the directories of the run's copies of packages: they come before the working directory."""
MODULE = "sflow_task"
"""Functions can import it: `from sflow_task import TransientError, FatalError, progress`."""
_PLAIN = (int, float, str, bool, list, dict, type(None), Any, inspect.Parameter.empty)


class TransientError(Exception):
    """The task may succeed when it is tried again."""


class FatalError(Exception):
    """The task will not succeed when it is tried again."""


def progress(current: float, total: float | None = None, message: str = "") -> None:
    """Say how far the task is: `progress(12, 100)`. Shown by `status`; calls cost a line in a file."""
    line = json.dumps({"current": current, "total": total, "message": message})
    path = os.environ.get("SFLOW_PROGRESS_FILE")
    if path:
        with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 - old interpreters
            file.write(line + "\n")


def main(arguments: list[str]) -> int:
    """Call the function and write its outputs; return the exit status."""
    os.environ.pop(SOURCE_VARIABLE, None)
    module = types.ModuleType(MODULE, __doc__)
    for one in (TransientError, FatalError, progress):
        setattr(module, one.__name__, one)
    sys.modules[MODULE] = module
    where, names = arguments[0], json.loads(os.environ.pop(OUTPUTS_VARIABLE, "[]"))
    sys.argv = [where]
    try:
        sys.path[:0] = _packages()
        function = _function(where)
        if "run_chunk" in globals():  # of a task for several items
            status: int = globals()["run_chunk"](function, where, names)
            return status
        arguments_now = _arguments(function, where, _given().get("values", {}))
        _write(_outputs(_called(function, arguments_now), names, where))
    except Exception as error:  # noqa: BLE001 - the function's own: it decides the exit status
        return _status(error)
    return 0


def _packages() -> list[str]:
    return [one for one in os.environ.get(PACKAGES_VARIABLE, "").split(os.pathsep) if one]


def _function(where: str) -> Callable[..., Any]:
    """Return the function. Raises: FatalError, and what its module raises."""
    place, _, name = where.rpartition(":")
    found: Any = _of_file(place) if place.endswith(".py") else _of_module(place)
    for part in name.split("."):
        if not hasattr(found, part):
            raise FatalError(f"{place} has no {name}")
        found = getattr(found, part)
    if not callable(found):
        raise FatalError(f"{where} is not a function")
    function: Callable[..., Any] = found
    return function


def _of_file(place: str) -> types.ModuleType:
    path = Path(os.environ.get("SFLOW_WORKSPACE_DIR", "."), place).resolve()
    if not path.is_file():
        raise FatalError(f"there is no file {path}")
    sys.path.insert(len(_packages()), str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FatalError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _of_module(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        places = os.pathsep.join(one or str(Path.cwd()) for one in sys.path)
        text = f"{sys.executable} has no module {error.name}; it looks in {places}"
        raise FatalError(text) from None


def _called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Return what a function, also an asynchronous one, returns."""
    result = function(**arguments)
    if inspect.iscoroutine(result):
        import asyncio

        return asyncio.run(result)
    return result


def _given() -> dict[str, Any]:
    """Return the document with the task's inputs; empty for one that has none."""
    path = os.environ.get("SFLOW_INPUTS_FILE")
    document: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    return document


def _arguments(function: Callable[..., Any], where: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return inputs as arguments, of the types that the function asks for. Raises: FatalError."""
    parameters = inspect.signature(function).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    unknown = [name for name in given if name not in parameters and not takes_any]
    if unknown:
        listed = ", ".join(parameters) or "none"
        raise FatalError("{} has no parameter {}; it has {}".format(where, ", ".join(unknown), listed))
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    missing = [
        name
        for name, one in parameters.items()
        if name not in given and one.default is one.empty and one.kind not in variadic
    ]
    if missing:
        raise FatalError("{} needs {}, which the task has no inputs for".format(where, ", ".join(missing)))
    with_extras: dict[str, Any] = {"include_extras": True} if sys.version_info >= (3, 9) else {}
    try:
        hints = get_type_hints(function, **with_extras)
    except Exception:  # noqa: BLE001 - names that only type checkers know: values are passed as they are
        hints = {}
    return {name: _converted(value, hints.get(name, Any), name) for name, value in given.items()}


def _converted(value: Any, hint: Any, name: str) -> Any:
    """Return a value as the type that a parameter is annotated with. Raises: FatalError."""
    if value is None or hint in _PLAIN:
        return value
    if hint is Path:
        return Path(value)
    try:
        from pydantic import TypeAdapter, ValidationError
    except ImportError:
        if hasattr(hint, "__dataclass_fields__") and isinstance(value, dict):
            return hint(**value)
        return value
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise FatalError(f"input {name}: {error}") from None


def _outputs(result: Any, names: list[str], where: str) -> dict[str, Any]:
    """Return the outputs by name. Raises: FatalError."""
    result = _plain(result)
    if isinstance(result, dict) and (len(names) != 1 or names[0] in result):
        dropped = [name for name in result if name not in names]
        if dropped:
            _say(f"dropped, because the task declares no such outputs: {', '.join(map(str, dropped))}")
        return {name: result[name] for name in names if name in result}
    if len(names) == 1:
        return {names[0]: result}
    if result is None:
        return {}
    if isinstance(result, list) and len(result) == len(names):
        return dict(zip(names, result))  # noqa: B905 - old interpreters
    text = "{} returned {}, and the task declares the outputs {}: return a mapping".format(
        where, type(result).__name__, ", ".join(names) or "none"
    )
    if not names:
        _say(f"dropped, because the task declares no outputs: a {type(result).__name__}")
        return {}
    raise FatalError(text)


def _plain(value: Any, place: str = "the result") -> Any:
    """Return a value as JSON has it. Raises: FatalError that names what JSON does not have."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    elif hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(key): _plain(one, f"{place}[{key!r}]") for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, f"{place}[{index}]") for index, one in enumerate(value)]
    for method in ("item", "tolist"):  # numbers and arrays of numerical libraries
        if hasattr(value, method) and (method == "tolist" or getattr(value, "ndim", 0) == 0):
            return _plain(getattr(value, method)(), place)
    raise FatalError(f"{place} is a {type(value).__name__}, which JSON does not have")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _write(outputs: dict[str, Any]) -> None:
    """Write the outputs where the agent reads them, whole or not at all."""
    path = os.environ.get("SFLOW_OUTPUTS_FILE")
    if not path or not outputs:
        return
    part = f"{path}.{os.getpid()}.part"
    Path(part).write_text(json.dumps(outputs), encoding="utf-8")
    os.replace(part, path)  # noqa: PTH105 - old interpreters


def _status(error: Exception) -> int:
    """Print the failure without our own frames; return the exit status that its class means."""
    classes = [one.__name__ for one in type(error).__mro__]
    if type(error) is FatalError and _is_ours(error.__traceback__):
        _say(f"FatalError: {error}")
    else:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_globals is globals():
            frames = frames.tb_next
        import traceback

        sys.stdout.flush()
        traceback.print_exception(type(error), error, frames)
    return TRANSIENT if "TransientError" in classes else FATAL if "FatalError" in classes else 1


def _is_ours(frames: TracebackType | None) -> bool:
    """Return whether all frames of a traceback are of this file."""
    while frames is not None:
        if frames.tb_frame.f_globals is not globals():
            return False
        frames = frames.tb_next
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

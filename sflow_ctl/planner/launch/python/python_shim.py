"""Calls a Python function as a task: `python -c SOURCE FUNCTION`. The source of this file travels to the node.

FUNCTION is `package.module:name` or `path/file.py:name`; its arguments are the task's inputs, its result the task's outputs. The
standard library of Python 3.8 is all it needs: the interpreter is the user's, which has nothing of ours.

Each of a thousand small tasks pays for what is imported at its start, so that is only what the interpreter has loaded already.
Other modules are imported where a task needs them.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # checkers take it for true, as that of typing, which is slow to import
    from collections.abc import Callable
    from types import ModuleType, TracebackType
    from typing import Any

TRANSIENT, FATAL = 75, 64
"""Exit statuses of failures that may pass by themselves, and of others. Source: sysexits.h, EX_TEMPFAIL, EX_USAGE."""
SOURCE_VARIABLE = "SFLOW_PYTHON_TASK"
OUTPUTS_VARIABLE = "SFLOW_PYTHON_OUTPUTS"
"""Has the names of the outputs that the function returns, as JSON."""
PACKAGES_VARIABLE = "SFLOW_PYTHON_PACKAGES"
"""Has the directories of the run's copies of packages: they come before the working directory."""
MODULE = "sflow_task"
"""Functions can import it: `from sflow_task import TransientError, FatalError, progress`."""
_PLAIN = (int, float, str, bool, list, dict, type(None))
_PLAIN_NAMES = ("int", "float", "str", "bool", "list", "dict", "None")
"""The same as annotations that are texts, which they are below `from __future__ import annotations`."""
_TAKES_ANY = 0x08
"""Flag of code that takes `**others`. Source: inspect.CO_VARKEYWORDS."""


class TransientError(Exception):
    """The task may succeed when it is tried again."""


class FatalError(Exception):
    """The task will not succeed when it is tried again."""


def progress(current: float, total: float | None = None, message: str = "") -> None:
    """Say how far the task is: `progress(12, 100)`. Shown by `status`; calls cost a line in a file."""
    line = _text_of({"current": current, "total": total, "message": message})
    path = os.environ.get("SFLOW_PROGRESS_FILE")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def main(arguments: list[str]) -> int:
    """Call the function and write its outputs; return the exit status."""
    os.environ.pop(SOURCE_VARIABLE, None)
    module: ModuleType = type(sys)(MODULE)
    for one in (TransientError, FatalError, progress):
        setattr(module, one.__name__, one)
    sys.modules[MODULE] = module
    where, names = arguments[0], _value_of(os.environ.pop(OUTPUTS_VARIABLE, "[]"))
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


class _Reading:
    """How JSON is read: what `json.JSONDecoder` has of its own."""

    strict, object_hook, object_pairs_hook, parse_int, parse_float = True, None, None, int, float
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 - for the length of one call


def _value_of(text: str) -> Any:
    """Return what JSON means. `json` would import modules for patterns first, and then call the same program."""
    try:
        from _json import make_scanner

        rules: Any = _Reading
        text = text.strip()
        value, end = make_scanner(rules)(text, 0)
        if end == len(text):
            return value
    except Exception:  # noqa: BLE001 - another interpreter's, or not JSON: below, that is said
        pass
    import json

    return json.loads(text)


def _text_of(value: Any) -> str:
    """Return a plain value as JSON; see `_value_of`."""
    try:
        from _json import encode_basestring_ascii, make_encoder

        refuse: Any = None
        write = make_encoder({}, refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True)
        return "".join(write(value, 0))
    except Exception:  # noqa: BLE001 - another interpreter's
        import json

        return json.dumps(value)


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


def _of_file(place: str) -> ModuleType:
    path = os.path.realpath(os.path.join(os.environ.get("SFLOW_WORKSPACE_DIR", "."), place))
    if not os.path.isfile(path):
        raise FatalError(f"there is no file {path}")
    folder, file = os.path.split(path)
    sys.path.insert(len(_packages()), folder)
    name = file[: -len(".py")]
    module: ModuleType = _module_of(name, path)
    sys.modules[name] = module
    module.__dict__["__loader__"].exec_module(module)
    return module


def _module_of(name: str, path: str) -> Any:
    """Return a module that has not been executed. `importlib.util` would import other modules, and give the same functions."""
    try:
        from _frozen_importlib import module_from_spec
        from _frozen_importlib_external import spec_from_file_location
    except ImportError:  # another interpreter's
        from importlib.util import module_from_spec, spec_from_file_location
    spec: Any = spec_from_file_location(name, path)
    return module_from_spec(spec)


def _of_module(name: str) -> ModuleType:
    try:
        __import__(name)
        return sys.modules[name]
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        places = os.pathsep.join(one or os.getcwd() for one in sys.path)
        text = f"{sys.executable} has no module {error.name}; it looks in {places}"
        raise FatalError(text) from None


def _called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Return what a function, also an asynchronous one, returns."""
    result = function(**arguments)
    if hasattr(result, "cr_await"):
        import asyncio

        return asyncio.run(result)
    return result


def _given() -> dict[str, Any]:
    """Return the document with the task's inputs; empty for one that has none."""
    path = os.environ.get("SFLOW_INPUTS_FILE")
    if not path:
        return {}
    with open(path, encoding="utf-8") as file:
        document: dict[str, Any] = _value_of(file.read())
    return document


def _arguments(function: Callable[..., Any], where: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return inputs as arguments, of the types that the function asks for. Raises: FatalError."""
    names, needed, takes_any = _parameters(function)
    unknown = [] if takes_any else [name for name in given if name not in names]
    if unknown:
        listed = ", ".join(names) or "none"
        raise FatalError("{} has no parameter {}; it has {}".format(where, ", ".join(unknown), listed))
    missing = [name for name in needed if name not in given]
    if missing:
        raise FatalError("{} needs {}, which the task has no inputs for".format(where, ", ".join(missing)))
    if _are_plain(function, given):
        return given
    from typing import Any, get_type_hints

    with_extras: dict[str, Any] = {"include_extras": True} if sys.version_info >= (3, 9) else {}
    try:
        hints = get_type_hints(function, **with_extras)
    except Exception:  # noqa: BLE001 - names that only type checkers know: values are passed as they are
        hints = {}
    return {name: _converted(value, hints.get(name, Any), name) for name, value in given.items()}


def _parameters(function: Callable[..., Any]) -> tuple[list[str], list[str], bool]:
    """Return the names of parameters, those without a default, and whether others are taken as well."""
    if type(function) is type(main) and not function.__dict__:
        code, own = function.__code__, function.__kwdefaults__ or {}
        names = list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
        first = code.co_argcount - len(function.__defaults__ or ())
        needed = names[:first] + [name for name in names[code.co_argcount :] if name not in own]
        return names, needed, bool(code.co_flags & _TAKES_ANY)
    import inspect

    all_of_them = inspect.signature(function).parameters.values()
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = [one for one in all_of_them if one.kind not in variadic]
    takes_any = any(one.kind is one.VAR_KEYWORD for one in all_of_them)
    return [one.name for one in named], [one.name for one in named if one.default is one.empty], takes_any


def _are_plain(function: Callable[..., Any], given: dict[str, Any]) -> bool:
    """Return whether the function takes all values as JSON has them."""
    if type(function) is not type(main) or function.__dict__:
        return False
    try:
        hints = function.__annotations__
    except Exception:  # noqa: BLE001 - since Python 3.14 they are evaluated here
        return False
    space = function.__globals__
    return all(
        name not in hints
        or hints[name] is None
        or any(hints[name] is one for one in _PLAIN)
        or (isinstance(hints[name], str) and hints[name] in _PLAIN_NAMES and hints[name] not in space)
        for name in given
    )


def _converted(value: Any, hint: Any, name: str) -> Any:
    """Return a value as the type that a parameter is annotated with. Raises: FatalError."""
    from pathlib import Path
    from typing import Any

    if value is None or hint is Any or hint in _PLAIN:
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
    with open(part, "w", encoding="utf-8") as file:
        file.write(_text_of(outputs))
    os.replace(part, path)


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

"""Takes the blocks of other files into a workflow: `include: {PREFIX: FILE}` makes block `train` of that file `PREFIX.train`.

An included file that has tasks is a block itself, `PREFIX`: its inputs and outputs are those of its workflow. What is taken is
written out wherever the workflow is composed or recorded, so that a run needs no other file later. Called by `files`.
"""

import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.field_lookup import dotted
from sflow_ctl.format.merged.blocks import add_block
from sflow_ctl.format.merged.files import Merged, named_items
from sflow_ctl.format.merged.items import Item
from sflow_ctl.format.merged.short_forms import with_long_values
from sflow_ctl.format.schema import VERSION
from sflow_ctl.format.yaml_source import PathKey, Source, read_source

INCLUDE = "include"
_PREFIX = lazy_pattern(r"[A-Za-z][A-Za-z0-9_-]*")
_EXPRESSION = lazy_pattern(r"\$\{\{.*?\}\}", re.DOTALL)
_INPUT = lazy_pattern(r"(?<![.\w])workflow\.inputs(?=\.|\[)")
_OF_FILE = ("version", INCLUDE, "workflow")
_OF_WORKFLOW = ("name", "blocks", "tasks", "inputs", "outputs")
"""Keys of an included file, and of its workflow."""
MAX_FILES = 1000
"""Of a workflow; far more than are written, and a limit for files that include others many times over."""


def take_includes(merged: Merged, source: Source, prefix: str = "", chain: tuple[Path, ...] = ()) -> None:
    """Add the blocks of all files that a file includes. `chain` has the files that lead to it, in order."""
    given = source.data[INCLUDE]
    if not isinstance(given, dict):
        what = "include must be a mapping from prefixes to files"
        finding = Finding("wrong-type", what, _place(source, (INCLUDE,)), "e.g. include: {fit: lib/fit.yaml}")
        merged.findings.append(finding)
        return
    for name, written in given.items():
        problem = _problem(name, written)
        if problem is not None:
            where = _place(source, (INCLUDE, str(name)))
            merged.findings.append(Finding("wrong-value", problem[0], where, problem[1]))
        elif len(merged.included) >= MAX_FILES:
            what = f"more than {MAX_FILES} files are included"
            where = _place(source, (INCLUDE, name))
            merged.findings.append(Finding("too-many-includes", what, where, "include each of them once"))
            return
        else:
            _take(merged, source, f"{prefix}{name}", name, written, (*chain, source.path))


def _problem(name: Any, written: Any) -> tuple[str, str] | None:
    """Return what is wrong with an entry, and what to do; None for a good one."""
    if not isinstance(name, str) or not _PREFIX.fullmatch(name):
        return f'"{name}" cannot be the prefix of an included file', "use letters, digits, _ and -"
    if not isinstance(written, str) or not written:
        return (
            f'the file that is included as "{name}" must be a path',
            f"e.g. include: {{{name}: {name}.yaml}}",
        )
    if "${{" in written:
        what = (
            f'the file that is included as "{name}" has an expression: files are read before values are known'
        )
        return what, "write the path as it is"
    return None


def _take(
    merged: Merged, source: Source, prefix: str, name: str, written: str, chain: tuple[Path, ...]
) -> None:
    """Add the blocks of one file with their prefix."""
    place = _place(source, (INCLUDE, name))
    path = _beside(source.path, written)
    if path.resolve() in [one.resolve() for one in chain]:
        shown = [*map(str, chain[[one.resolve() for one in chain].index(path.resolve()) :]), str(path)]
        what = f"files include each other: {' -> '.join(shown)}"
        merged.findings.append(Finding("cycle", what, place, "remove one of the includes"))
        return
    other = merged.included.get(prefix)
    if other is not None:
        if other.path.resolve() != path.resolve():
            what = f'"{prefix}" is the prefix of two included files, {other.path} and {path}'
            merged.findings.append(Finding("duplicate-key", what, place, "give one of them another prefix"))
        return
    included, problems = read_source(path, "included file")
    for one in problems:
        is_whole = one.where == str(path)
        merged.findings.append(Finding(one.code, one.what, place, one.hint) if is_whole else one)
    if included is None:
        return
    merged.included[prefix] = included
    if not isinstance(included.data, dict):
        what = f"the included file {path} is not a mapping"
        merged.findings.append(Finding("wrong-type", what, place, "name a file with workflow: {blocks: ...}"))
        return
    before = len(merged.findings)
    _check(merged, included, place)
    if len(merged.findings) == before:
        _take_blocks(merged, included, prefix)
        if included.data.get(INCLUDE) is not None:
            take_includes(merged, included, f"{prefix}.", chain)


def _beside(including: Path, written: str) -> Path:
    """Return the path of a file that another one names: relative to that, where it is a file itself."""
    folder = including.parent if including.is_file() else Path()  # a pipe is in no directory of the user's
    return folder / written


def _check(merged: Merged, source: Source, place: str) -> None:
    """Check that an included file has nothing but what is taken of it."""
    version, workflow = source.data.get("version"), source.data.get("workflow")
    if version != VERSION:
        said = "has no version" if version is None else f"has version {version}"
        what = f"the included file {source.path} {said}"
        where = place if version is None else _place(source, ("version",))
        merged.findings.append(
            Finding("unsupported-version", what, where, f'begin it with version: "{VERSION}"')
        )
    _refuse_others(merged, source, (), _OF_FILE)
    if not isinstance(workflow, dict):
        what = f"the included file {source.path} has no workflow"
        merged.findings.append(Finding("missing-key", what, place, "it needs workflow: {blocks: ...}"))
        return
    _refuse_others(merged, source, ("workflow",), _OF_WORKFLOW)
    if not (workflow.get("blocks") or workflow.get("tasks")):
        what = f"the included file {source.path} has neither blocks nor tasks"
        merged.findings.append(Finding("missing-key", what, place, "add workflow: {blocks: ...} to it"))


def _refuse_others(merged: Merged, source: Source, path: tuple[PathKey, ...], known: tuple[str, ...]) -> None:
    data: Mapping[Any, Any] = source.data
    for key in path:
        data = data[key]
    for name in data:
        if name in known or data[name] is None:
            continue
        full = (*path, str(name))
        what = f'"{name}" of an included file is not taken: its tasks use what the including workflow has'
        hint = guess_hint(str(name), list(known), "move it there, or give blocks the values as inputs")
        merged.findings.append(Finding("unknown-key", what, _place(source, full, is_key=True), hint))


def _take_blocks(merged: Merged, source: Source, prefix: str) -> None:
    workflow, home = source.data["workflow"], posixpath.dirname(source.path.absolute())

    def moved(tasks: Any) -> Any:
        return _each_task(tasks, lambda task: _moved(task, prefix, home))

    path = ("workflow", "blocks")
    for item in named_items(source, path, workflow.get("blocks"), merged.findings, allow_values=False):
        item.name = item.body["name"] = f"{prefix}.{item.name}"
        item.body["tasks"] = moved(item.body.get("tasks"))
        add_block(merged, item)
    if workflow.get("tasks"):
        body = _as_block(merged, source, {**workflow, "tasks": moved(workflow["tasks"])})
        add_block(merged, Item(prefix, {**body, "name": prefix}, source, ("workflow",)))


def _each_task(tasks: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Return tasks, in either form, with changed bodies."""
    if isinstance(tasks, dict):
        return {name: change(body) if isinstance(body, dict) else body for name, body in tasks.items()}
    if isinstance(tasks, list):
        return [change(body) if isinstance(body, dict) else body for body in tasks]
    return tasks


def _moved(task: dict[str, Any], prefix: str, home: str) -> dict[str, Any]:
    """Return the body of a task with the names of blocks, and the paths of code beside its file, as the workflow has them."""
    done = dict(task)
    if isinstance(task.get("block"), str):
        done["block"] = f"{prefix}.{task['block']}"
    function = task.get("python")
    if isinstance(function, str):
        done["python"] = _code(function, home)
    elif isinstance(function, dict) and isinstance(function.get("file"), str):
        done["python"] = {**function, "file": _absolute(function["file"], home)}
    packages = task.get("packages")
    if isinstance(packages, str):
        done["packages"] = _absolute(packages, home)
    elif isinstance(packages, list):
        done["packages"] = [_absolute(one, home) if isinstance(one, str) else one for one in packages]
    return done


def _code(function: str, home: str) -> str:
    """Return `FILE:FUNCTION` with the file's absolute path; a module is found as ever."""
    place, colon, name = function.rpartition(":")
    return f"{_absolute(place, home)}{colon}{name}" if place.endswith(".py") else function


def _absolute(path: str, home: str) -> str:
    is_late = path.startswith("${{")
    return path if is_late else str(Path(home, path))


# ------------------------------------------------- a workflow as a block


def _as_block(merged: Merged, source: Source, workflow: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a block that does what a workflow does; problems go to the findings."""
    long = with_long_values(workflow)
    inputs, outputs = long.get("inputs") or {}, long.get("outputs") or {}
    body: dict[str, Any] = {"tasks": _with_inputs(workflow["tasks"])}
    if isinstance(inputs, dict):
        body["inputs"] = {
            name: {key: one[key] for key in ("type", "default") if key in one}
            if isinstance(one, dict)
            else one
            for name, one in inputs.items()
        }
    body["outputs"] = {}
    for name, one in outputs.items() if isinstance(outputs, dict) else ():
        value = _output(one) if isinstance(one, dict) else one
        if value is None:
            what = f'output "{name}" of the included workflow is more than one output of a task, or an expression'
            hint = "write TASK.outputs.NAME or an expression, and choose between tasks in one of its tasks"
            where = _place(source, ("workflow", "outputs", str(name)))
            merged.findings.append(Finding("wrong-value", what, where, hint))
        body["outputs"][name] = _with_inputs(value)
    return body


def _output(given: Mapping[str, Any]) -> Any:
    """Return an output of a workflow as the one of a block; None for one that a block cannot have."""
    sources = given.get("from")
    if any(given.get(key) is not None for key in ("pick", "default")):
        return None
    if isinstance(sources, list) and len(sources) == 1 and isinstance(sources[0], str):
        task, _, name = sources[0].rpartition(".outputs.")
        return f"${{{{ task['{task}'].outputs.{name} }}}}"
    return None if sources else given.get("value")


def _with_inputs(data: Any) -> Any:
    """Return data whose expressions read the inputs of a block in place of those of the workflow."""
    if isinstance(data, dict):
        return {key: _with_inputs(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_with_inputs(value) for value in data]
    if not isinstance(data, str) or "${{" not in data:
        return data
    return _EXPRESSION.sub(lambda match: _INPUT.sub("block.inputs", match[0]), data)


def _place(source: Source, path: tuple[PathKey, ...], *, is_key: bool = False) -> str:
    return f"{source.key_where(path) if is_key else source.where(path)}  {dotted(path)}"

"""Rules for a task's outputs, ports and files."""

import re
from collections.abc import Callable, Iterator

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.rules.names import unsafe_path

Where = Callable[..., str]
_PORT_NAME = lazy_pattern(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
MAX_PORT = 65535
_MODE = lazy_pattern(r"(?:0o?)?[0-7]{3}")


def output_findings(task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check that each output has exactly one kind of source."""
    for index, output in enumerate(task.outputs):
        if output.is_found:
            continue
        place = where("tasks", task.name, "outputs", index)
        chosen = [name for name in ("pattern", "json", "csv") if getattr(output, name) is not None]
        if len(chosen) != 1:
            what = f'an output of task "{task.name}" needs exactly one of pattern, json and csv'
            found = ", ".join(chosen) or "none"
            yield Finding("missing-key", f"{what}, found {found}", place, 'e.g. pattern: "rate = {rate:f}"')
        elif output.csv is not None and output.source == "stdout":
            what = f'an output of task "{task.name}" takes a CSV column, which needs a file'
            yield Finding("missing-key", what, place, "add source: FILE, relative to the task's directory")
        elif output.pattern is not None and output.name is not None:
            what = f'an output of task "{task.name}" has a pattern, whose fields name the values'
            place = where("tasks", task.name, "outputs", index, "name")
            yield Finding("unknown-key", what, place, "drop name")


def port_findings(task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check that the names of ports can be part of environment variables, without collisions."""
    seen: dict[str, str] = {}
    for index, served in enumerate(task.served_ports):
        if isinstance(served.port, int | float) and not 1 <= served.port <= MAX_PORT:
            what = f'ports.port must be in 1 to {MAX_PORT}, is {served.port} in task "{task.name}"'
            yield Finding("wrong-value", what, where("tasks", task.name, "ports", index, "port"))
    for name in task.leased_ports:
        place = where("tasks", task.name, "ports", name)
        if not _PORT_NAME.fullmatch(name):
            what = f'"{name}" of task "{task.name}" cannot be the name of a port'
            hint = "names are part of variables (SFLOW_PORT_...): use letters, digits and `_`"
            yield Finding("port-name", what, place, hint)
        other = seen.setdefault(name.upper(), name)
        if other != name:
            what = f'ports "{other}" and "{name}" of task "{task.name}" would be one variable, SFLOW_PORT_{name.upper()}'
            yield Finding("port-name", what, place, "rename one of them")


def file_findings(task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check that the files of a task stay in its directory, and each has one source of content."""
    for path, file in task.files.items():
        place = ("tasks", task.name, "files", path)
        problem = unsafe_path(path)
        if problem is not None:
            what = f'file "{path}" of task "{task.name}" {problem}'
            hint = "paths are relative to the task's directory, and stay in it"
            yield Finding("unsafe-path", what, where(*place), hint)
        elif path == f"{task.name}.log" or path == "outputs.json":
            what = f'file "{path}" of task "{task.name}" has the name of a file that sflow-ctl writes'
            yield Finding("unsafe-path", what, where(*place), "rename it")
        if isinstance(file, str):
            continue
        if (file.content is None) == (file.source is None):
            what = f'file "{path}" of task "{task.name}" needs exactly one of content and from'
            yield Finding("missing-key", what, where(*place), "content: TEXT, or from: ARTIFACT or a path")
        if file.mode is not None and not _MODE.fullmatch(file.mode):
            what = f'mode "{file.mode}" of file "{path}" of task "{task.name}" is not valid'
            yield Finding("wrong-value", what, where(*place, "mode"), 'three octal digits: mode: "755"')

"""Plans the ports and files of a concrete task."""

from collections.abc import Callable, Sequence
from typing import Any

from protocol.messages.rank_spec import PortBlock
from sflow_ctl.format import schema
from sflow_ctl.plan.results import PlannedFile
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.numbers import as_flag, as_int, at

MAX_PORTS = 22_768
"""The limit for one task: the number of ports from 10000 up to where Linux begins with outgoing connections,
by default.
"""
MAX_FILE_BYTES = 1 << 20
"""The limit for one file: files travel in the order that starts their task."""
MAX_FILES_BYTES = 8 << 20
"""The limit for all files of a task: they travel in one packet, and a packet has at most 16 MiB."""
HIGHEST_PORT = 65535
FILE_MODE = 0o644


def plan_ports(
    task: schema.Task, evaluate: Callable[[Any], Any], findings: Findings
) -> tuple[PortBlock, ...]:
    """Return the ports that the task leases on each of its nodes, in file order; problems are findings."""
    blocks = []
    for name, ports in task.leased_ports.items():
        with findings.collecting(
            "tasks", task.name, "ports", name, subject=f'task "{task.name}"'
        ):  # one call each: a problem of one must not hide the next
            field = ("count",) if isinstance(ports, schema.Ports) else ()
            spec = ports if isinstance(ports, schema.Ports) else schema.Ports(count=ports)
            count = at(("ports", name, *field), as_int, evaluate(spec.count), 1)
            blocks.append(
                PortBlock(
                    name=name,
                    count=count,
                    contiguous=at(("ports", name, "contiguous"), as_flag, evaluate(spec.contiguous)),
                )
            )
    total = sum(block.count for block in blocks)
    if total > MAX_PORTS:
        what = f'task "{task.name}" asks for {total} ports; a node has at most {MAX_PORTS} to give'
        where = findings.loaded.where("tasks", task.name, "ports")
        findings.add("too-many-ports", what, where, "ask for fewer, or for replicas on several nodes")
    return tuple(blocks)


def served_port(task: schema.Task, evaluate: Callable[[Any], Any]) -> int | None:
    """Return the first port of the list form of `ports`, or None. Raises: UnplannableError, NumberError, ExpressionError."""
    numbers = [
        at(("ports", index, "port"), as_int, evaluate(served.port))
        for index, served in enumerate(task.served_ports)
    ]
    for index, port in enumerate(numbers):
        if not 1 <= port <= HIGHEST_PORT:
            what = f'task "{task.name}": ports.port must be in 1 to {HIGHEST_PORT}, is {port}'
            raise UnplannableError("wrong-value", what, path=("ports", index, "port"))
    return numbers[0] if numbers else None


def plan_files(
    task: schema.Task, evaluate: Callable[[Any], Any], read: Callable[[str], str]
) -> list[PlannedFile]:
    """Return the files with their contents as written. `read` returns the text of an artifact or of a file.

    Raises: UnplannableError, ExpressionError.
    """
    files = []
    for path, file in task.files.items():
        content, mode = (file, None) if isinstance(file, str) else (file.content, file.mode)
        if content is None:
            assert isinstance(file, schema.File)
            assert file.source is not None
            source = str(evaluate(file.source))
            try:
                content = read(source)
            except (OSError, UnicodeDecodeError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                what = f'task "{task.name}": "{source}" of file "{path}" cannot be read: {why}'
                hint = "`from` is the name of an artifact that is a text file, or a path in the workspace"
                raise UnplannableError("file-missing", what, hint, ("files", path, "from")) from error
        files.append(PlannedFile(path=path, content=content, mode=int(mode, 8) if mode else FILE_MODE))
    if task.args_json is not None:
        from sflow_ctl.planner.launch.flags import as_json  # few tasks have one

        files.append(
            PlannedFile(path=task.args_json, content=f"{as_json(evaluate(task.args))}\n", mode=FILE_MODE)
        )
    return files


def check_sizes(task: schema.Task, files: Sequence[PlannedFile]) -> None:
    """Refuse files that cannot travel to a node. Those with deferred expressions count as written.

    Raises: UnplannableError.
    """
    total = 0
    for file in files:
        size = len(file.content.encode())
        total += size
        if size > MAX_FILE_BYTES:
            what = f'task "{task.name}": file "{file.path}" is larger than {MAX_FILE_BYTES >> 10} KiB'
            raise UnplannableError("file-too-large", what, "make it an artifact", ("files", file.path))
    if total > MAX_FILES_BYTES:
        limit = f"at most {MAX_FILES_BYTES >> 10} KiB travel with a task"
        what = f'task "{task.name}": its files have {total >> 10} KiB together, and {limit}'
        raise UnplannableError("files-too-large", what, "make the large ones artifacts", ("files",))


def artifacts_in_files(tasks: Sequence[schema.Task]) -> set[str]:
    """Return the names that `from` of files begins with, some of them names of artifacts."""
    files = [file for task in tasks for file in task.files.values() if isinstance(file, schema.File)]
    return {file.source.partition("/")[0] for file in files if file.source is not None}

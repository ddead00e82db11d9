"""The names of the files of telemetry in a run directory. The reader and the recorder use them."""

from pathlib import Path
from typing import NamedTuple

from sflow_ctl.runtime.record import layout

WHOLE, TAIL = ".blocks", ".tail"
"""Endings: the blocks of whole minutes, and the rows since the last of them."""
WINDOWS = "windows.jsonl"
"""The windows that tasks have marked, a line each."""


class NodeFile(NamedTuple):
    """The files of one node."""

    node: int
    name: str
    stem: Path


def folder(directory: Path) -> Path:
    """Return the folder of telemetry in a run directory."""
    return directory / layout.TELEMETRY


def node_file(directory: Path, node: int, name: str) -> NodeFile:
    """Return the files of a node by its number and name."""
    return NodeFile(node, name, folder(directory) / f"{node}.{name.replace('/', '_')}")


def node_files(directory: Path) -> list[NodeFile]:
    """Return the nodes that have files, by number; none where nothing was measured or the folder is unreadable."""
    found: dict[Path, NodeFile] = {}
    try:
        paths = sorted(folder(directory).iterdir())
    except OSError:
        return []
    for path in paths:
        ending = next((one for one in (WHOLE, TAIL) if path.name.endswith(one)), None)
        if ending is None:
            continue
        number, mark, name = path.name.removesuffix(ending).partition(".")
        if mark and number.isdecimal():
            stem = path.with_name(path.name.removesuffix(ending))
            found[stem] = NodeFile(int(number), name, stem)
    return sorted(found.values())

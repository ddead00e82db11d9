"""The record of a cluster, with which another process can use or end it."""

import os
import shutil
import tempfile
from pathlib import Path

import msgspec

from tests.slurm.processes import Process
from tests.slurm.settings import Settings

PREFIX = "sflow-slurm-"
FILE = "cluster.json"


class Record(msgspec.Struct):
    """Processes are known by pid and start time, since pids are reused."""

    settings: Settings
    owner: Process | None
    """The cluster ends with it; None for one that was started by hand."""
    keeper: Process | None = None
    machines: dict[str, Process] = {}
    own_directories: dict[str, list[str]] = {}

    def write(self, directory: Path) -> None:
        """All of it or nothing."""
        new = directory / f"{FILE}.new"
        new.write_bytes(msgspec.json.encode(self))
        new.rename(directory / FILE)

    @classmethod
    def read(cls, directory: Path) -> "Record | None":
        """None where no cluster is."""
        try:
            return msgspec.json.decode((directory / FILE).read_bytes(), type=cls)
        except FileNotFoundError:
            return None


def directory_of(name: str) -> Path:
    """Return the directory of the cluster of that name."""
    return Path(tempfile.gettempdir(), PREFIX + name)


def end(directory: Path) -> None:
    """Every process of the cluster, its namespaces with them, and its files."""
    record = Record.read(directory)
    if record is None:
        return
    if record.keeper is not None:
        record.keeper.kill()
    shutil.rmtree(directory, ignore_errors=True)


def end_ownerless() -> list[Path]:
    """Ends what owners left that could not do it themselves; returns the directories removed."""
    ended = []
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        record = Record.read(directory)
        if record is not None and record.owner is not None and not record.owner.is_alive:
            end(directory)
            ended.append(directory)
    return ended


def this_process() -> Process:
    """Return the owner of the clusters that it starts."""
    process = Process.of(os.getpid())
    assert process is not None
    return process

"""Writes the files of tasks on their node before they start, each whole or not at all."""

import os

import msgspec

from protocol.messages.rank_spec import RankSpec
from sflow_agent.processes.spawn import SpawnError

FILES_DIRECTORY = "SFLOW_TASK_FILES_DIR"


def with_files(spec: RankSpec, log: str) -> RankSpec:
    """Return the rank with its files written beside its log, `log` on this node, and their paths in its variables.

    Raises: SpawnError.
    """
    directory = log.rpartition("/")[0]
    for file in spec.files:
        path = f"{directory}/{file.path}"
        try:
            _write(path, file.content.encode(), file.mode)
        except OSError as error:
            reason = f"its file {path} cannot be written: {error.strerror}"
            raise SpawnError(error.errno or 0, reason) from error
    container = spec.container
    if container is not None and directory not in container.directories:
        container = msgspec.structs.replace(container, directories=(*container.directories, directory))
    return msgspec.structs.replace(spec, env={**spec.env, FILES_DIRECTORY: directory}, container=container)


def _write(path: str, content: bytes, mode: int) -> None:
    """Write a file by a rename: agents of other nodes may write the same file, and its readers see all of it."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)  # noqa: PTH103, PTH120
    part = f"{path}.{os.uname().nodename}-{os.getpid()}.part"
    with open(part, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
    os.replace(part, path)  # noqa: PTH105

"""Writes the files of tasks on their node before they start, each whole or not at all."""

import contextlib
import errno
import os

import msgspec

from protocol.messages.rank_spec import RankSpec, TaskFile
from sflow_agent.processes.spawn import SpawnError

FILES_DIRECTORY = "SFLOW_TASK_FILES_DIR"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def with_files(spec: RankSpec, log: str) -> RankSpec:
    """Return the rank with its files written beside its log, `log` on this node, and their paths in its variables.

    Raises: SpawnError.
    """
    directory = log.rpartition("/")[0]
    for file in spec.files:
        root = spec.env.get("SFLOW_TASK_OUTPUT_DIR", directory) if file.is_in_task_directory else directory
        path = f"{root}/{file.path}"
        try:
            os.makedirs(root, 0o700, exist_ok=True)  # noqa: PTH103
            _write(root, file.path, content_of(file), file.mode)
        except OSError as error:
            is_link = error.errno in (errno.ELOOP, errno.ENOTDIR)
            why = "a link is in its way" if is_link else error.strerror
            reason = f"its file {path} cannot be written: {why}"
            raise SpawnError(error.errno or 0, reason) from error
    container = spec.container
    if container is not None and directory not in container.directories:
        container = msgspec.structs.replace(container, directories=(*container.directories, directory))
    return msgspec.structs.replace(spec, env={**spec.env, FILES_DIRECTORY: directory}, container=container)


def content_of(file: TaskFile) -> bytes:
    """Return the content of a file, with values from others as they are there. Raises: OSError."""
    content = file.content.encode()
    for one in file.values:
        with open(one.path, "rb") as source:  # noqa: PTH123 - text, as everywhere here
            value = source.read()
        if one.entry is not None:
            value = msgspec.json.decode(value, type=list[msgspec.Raw])[one.entry]
        content = content.replace(msgspec.json.encode(one.placeholder), value)
    return content


def _write(root: str, relative: str, content: bytes, mode: int) -> None:
    """Write a file below a directory, by a rename: agents of other nodes may write the same file, and its readers see all of it.

    No link on the way is followed: an earlier attempt may have left one. Raises: OSError.
    """
    *folders, name = relative.split("/")
    folder = os.open(root, _FOLDER)
    try:
        for part in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=folder)
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        part = f"{name}.{os.uname().nodename}-{os.getpid()}.part"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(part, flags, mode, dir_fd=folder), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)

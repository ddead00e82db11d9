"""Rules for names and paths that become directories, files or environment variables.

Pure functions on text: each says why a name cannot be used, or None. The findings are made by their callers.
"""

NAME_HINT = "names become directories: use letters, digits, `_`, `-` and inner dots, at most 200 bytes"
FILES_OF_RUN = frozenset({"sflow.log", "sflow_summary.log"})
"""Files that every run writes beside the directories of its tasks, so that none can have their names."""
MAX_BYTES = 200
"""Longest name of a directory or file: file systems allow 255 bytes, and we append suffixes such as `.attempt-12.log`."""


def unsafe_name(name: str) -> str | None:
    """Return why a name cannot be part of a path, or None."""
    if not name:
        return "is empty"
    if "/" in name or "\0" in name:
        return "contains a slash" if "/" in name else "contains a NUL character"
    if name.startswith("."):
        return "begins with a dot"
    if any(ord(character) < 32 for character in name):
        return "contains a control character"
    if len(name.encode()) > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes"
    return "contains `#`, which separates attempts" if "#" in name else None


def unsafe_path(path: str) -> str | None:
    """Return why a path does not name a file below a directory, or None."""
    parts = path.split("/")
    if path.startswith("/"):
        return "is absolute"
    if ".." in parts:
        return "leads out of the task's directory"
    if any(part in ("", ".") for part in parts):
        return "does not name a file"
    if any(ord(character) < 32 for character in path):
        return "contains a control character"
    if any(len(part.encode()) > MAX_BYTES for part in parts):
        return f"has a name of more than {MAX_BYTES} bytes"
    return None


def base_of_logger(logger: str) -> str:
    """Return the task's name in `name` or `name[3]`."""
    return logger.partition("[")[0] if logger.endswith("]") else logger

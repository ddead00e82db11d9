"""The name that an uploaded file gets in its target. Pure; the planner shows with it what the uploader does.

Source: nv-sflow 0.3.1, which joins prefix, folder and name the same way.
"""

import posixpath

from protocol.messages.uploads import StorageTarget

MAX_KEY_BYTES = 1024
"""Source: Amazon S3, "Naming Amazon S3 objects"."""


class KeyRefusedError(ValueError):
    """A name that no upload may have; the text says why."""


def is_glob(pattern: str) -> bool:
    """Return whether a path may mean several files."""
    return any(character in pattern for character in "*?[")


def object_key(target: StorageTarget, to: str, path: str, label: str = "") -> str:
    """Return the key, or the path below a directory, of the file at `path`.

    `to` is the key itself, the folder if it ends in `/`, and with neither the file keeps its name. A `label` comes before
    the extension. Raises: KeyRefusedError.
    """
    name = posixpath.basename(path)
    key = (f"{to}{name}" if to.endswith("/") else to or name).lstrip("/")
    if label:
        key = labelled(key, label)
    prefix = target.prefix
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    return _checked(prefix + key, target)


def labelled(key: str, label: str) -> str:
    """Return a key with `_label` before the extension of its last part."""
    folder, name = posixpath.split(key)
    stem, extension = posixpath.splitext(name)
    return posixpath.join(folder, f"{stem}_{label}{extension}")


def address(target: StorageTarget, key: str) -> str:
    """Return where a key is, for people: `s3://BUCKET/KEY` or a path."""
    if target.type == "directory":
        return posixpath.join(target.path, key.lstrip("/"))
    if target.type == "plugin":
        return f"{target.uri}/{key.lstrip('/')}"
    return f"s3://{target.bucket}/{key}"


def _checked(key: str, target: StorageTarget) -> str:
    parts = key.split("/")
    if ".." in parts:
        raise KeyRefusedError(f'"{key}" has "..", which would leave its folder')
    if not parts[-1] or parts[-1] == ".":
        raise KeyRefusedError(f'"{key}" is not the name of a file')
    if "\0" in key:
        raise KeyRefusedError("it has a NUL character")
    if target.type == "s3" and len(key.encode(errors="surrogateescape")) > MAX_KEY_BYTES:
        raise KeyRefusedError(f"it has more than {MAX_KEY_BYTES} bytes: {key[:80]}...")
    return key

"""Where the index of a user's runs is, and whether a database may be there."""

import os
from collections.abc import Mapping
from pathlib import Path

from protocol.mounts import TABLE, Mount, mount_of

RIGHT_LOCKS = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "reiserfs", "tmpfs", "xfs", "zfs")
)  # fmt: skip
"""File systems of one machine, whose locks its processes share.

Source: sqlite.org, "How To Corrupt An SQLite Database File", 2.1 (file systems with broken or missing lock implementations).
"""


def index_file(named: str | None, environ: Mapping[str, str]) -> Path:
    """Return the file of the index: the named one, else one beside the registry of the user's runs."""
    if named is not None:
        return Path(named)
    home = environ.get("XDG_STATE_HOME", "")
    if not home.startswith("/"):  # such a value must be ignored
        home = os.path.expanduser("~/.local/state")  # noqa: PTH111 - a user without home is not an error
    return Path(home, "sflow", "index.sqlite")


def problem_of(path: Path) -> str:
    """Return why no database may be at a path, as a sentence; empty if one may."""
    try:
        mount = mount_at(str(path))
    except OSError as error:
        return f"the file system of {path} is not known: {error.strerror}"
    return mount_problem(mount, str(path))


def mount_problem(mount: Mount, path: str) -> str:
    """Return why no database may be on this file system, as a sentence; empty if one may."""
    if mount.kind in RIGHT_LOCKS:
        return ""
    if mount.kind == "lustre" and "flock" in mount.options:
        return ""  # locks hold on all clients; with localflock only on one, without both they fail. Source: mount.lustre(8)
    kind = mount.kind or "an unknown file system"
    return f"{path} is on {kind}, where locks of one machine need not hold on another, and writers can damage a database"


def mount_at(path: str) -> Mount:
    """Return the file system of a path, or of its nearest directory that exists. Raises: OSError."""
    there = os.path.realpath(path)
    while not os.path.lexists(there) and there != "/":
        there = os.path.dirname(there)  # noqa: PTH120
    return mount_of(there, Path(TABLE).read_text(encoding="utf-8", errors="surrogateescape"))

"""Which file system a path is on, by the system's own table of mounts. Pure."""

from typing import NamedTuple

TABLE = "/proc/self/mountinfo"
"""Where the table is."""


class Mount(NamedTuple):
    """A mounted file system; all empty for one that is not in the table."""

    source: str = ""
    kind: str = ""
    """As "nfs4", "lustre", "ext4"."""
    options: tuple[str, ...] = ()
    """Of the mount and of the file system."""


def mount_of(path: str, mountinfo: str) -> Mount:
    """Return the file system that holds an absolute path without links.

    Source: proc(5), mountinfo: "36 35 98:0 /root /mount/point options - kind source options". The last of
    those mounted on one point is visible.
    """
    best, found = -1, Mount()
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) < 5 or len(tail) < 2:
            continue
        point = _unescaped(fields[4])
        is_above = point == "/" or path == point or path.startswith(point + "/")
        if is_above and len(point) >= best:
            options = (*fields[5:6], *tail[2:3])
            best = len(point)
            found = Mount(
                _unescaped(tail[1]), tail[0], tuple(word for one in options for word in one.split(","))
            )
    return found


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text

"""Parses mounts and quotas from the system's own text. Pure."""

from protocol.messages.inspection import Quota


def mount_of(path: str, mountinfo: str) -> tuple[str, str]:
    """Return (source, kind) of the file system that holds an absolute path without links; empty when none does.

    Source: proc(5), mountinfo: "36 35 98:0 /root /mount/point options - kind source options". The last of
    those mounted on one point is visible.
    """
    best, found = -1, ("", "")
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) < 5 or len(tail) < 2:
            continue
        point = _unescaped(fields[4])
        is_above = point == "/" or path == point or path.startswith(point + "/")
        if is_above and len(point) >= best:
            best, found = len(point), (_unescaped(tail[1]), tail[0])
    return found


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def quota_of(text: str, name: str) -> Quota | None:
    """Return the quota of one file system, by its source or mount point, from the output of a quota program.

    Source: quota(1) with --no-wrap and --raw-grace, and lfs-quota(1) with -q: "name KiB quota limit grace
    files quota limit grace"; used amounts over a limit have a star, no grace is 0 or a dash. A limit of 0
    means unlimited; the soft limit counts without a hard one.
    """
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 9 or fields[0] != name:
            continue
        try:
            kib, kib_soft, kib_hard, _, files, files_soft, files_hard, _ = (
                int(field.rstrip("*")) if field.rstrip("*").isdecimal() else -1 for field in fields[1:9]
            )
        except ValueError:
            return None
        if min(kib, files) < 0:
            return None
        return Quota(
            kib=kib, kib_limit=kib_hard or kib_soft, files=files, files_limit=files_hard or files_soft
        )
    return None


def least(*limits: str) -> int | None:
    """Return the lowest of some cgroup limits; None when all are "max" or not a number."""
    return min((int(limit) for limit in limits if limit.isdecimal()), default=None)

"""Parses quotas and limits from the system's own text. Pure."""

from protocol.messages.inspection import Quota


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

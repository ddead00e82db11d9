"""The registry of this user's runs: one link for each, `$XDG_STATE_HOME/sflow/runs/NAME`, to its run directory.

A run adds its link when it starts, whatever its output directory, so that `ps` and a run's id find it from every directory.
A hint, not a record: it may lack runs, and nothing fails without it. Written by `runtime/record/directory.py`.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from protocol.digest import sha256
from protocol.machine.loop_signals import QuietThread


def registry_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory of the links. Source: XDG Base Directory Specification."""
    home = environ.get("XDG_STATE_HOME", "")
    if not home.startswith("/"):  # such a value must be ignored
        home = os.path.expanduser("~/.local/state")  # noqa: PTH111 - a user without home is not an error
    return Path(home, "sflow", "runs")


def remember_run(directory: Path) -> None:
    """Add a run, in a thread: a home directory that is full, read-only or does not answer must not delay a run."""
    link = _link(directory)
    QuietThread(_add, "registry", (link, str(directory.absolute()))).start()


def _add(link: Path, target: str) -> None:
    with suppress(OSError):
        link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        link.symlink_to(target)


def forget_run(directory: Path) -> None:
    """Remove a run whose directory was deleted."""
    with suppress(OSError):
        _link(directory).unlink()


def known_runs() -> list[Path]:
    """Return the run directories of all links that lead to one, in no order; links to deleted ones are removed.

    One below a directory that is not there now may be on a file system that is not mounted: its link is kept.
    """
    found = []
    try:
        links = list(os.scandir(registry_directory(os.environ)))
    except OSError:
        return []
    for link in links:
        try:
            target = Path(os.readlink(link.path))  # noqa: PTH115 - thousands of runs: not a Path for each
        except OSError:
            continue  # not a link: no run has made it
        if target.is_dir():
            found.append(target)
        elif target.parent.is_dir():
            with suppress(OSError):
                os.unlink(link.path)  # noqa: PTH108
    return found


def _link(directory: Path) -> Path:
    """Return the link of a run: its name for readers, and a part of a digest, as runs elsewhere may have the same name."""
    digest = sha256(os.fsencode(directory.absolute())).hex()[:8]
    return registry_directory(os.environ) / f"{directory.name}.{digest}"

"""A separate process that lets a plug-in fetch one artifact: `python -I -m ... REQUEST`.

The plug-in is foreign code: it may hang, print, or take memory; its process can be killed. What it has made so far is looked at
now and then, which is the progress.
"""

import os
import sys
import threading
from pathlib import Path

import msgspec

from protocol.machine.loop_signals import QuietThread
from protocol.plugins import ARTIFACT_SCHEMES, PluginError, find_plugin
from sflow_ctl.runtime.artifacts.child_process import ChildReport, end_with_parent, say

LOOKS_EVERY_S = 0.5


class PluginRequest(msgspec.Struct, frozen=True):
    """What to fetch by which scheme, and the path that does not exist yet."""

    scheme: str
    uri: str
    dest: str


def main() -> None:
    """End with the process that started it, which holds the other end of stdin."""
    end_with_parent()
    answers = os.dup(1)
    os.dup2(2, 1)  # what the plug-in prints is not an answer
    sys.stdout = open(answers, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - until the end of the process
    request = msgspec.json.decode(sys.argv[1], type=PluginRequest)
    QuietThread(_watch, "progress", (Path(request.dest),)).start()
    say(_fetched(request))
    os._exit(0)  # the interpreter would wait for the plug-in's threads


def _fetched(request: PluginRequest) -> ChildReport:
    try:
        found = find_plugin(ARTIFACT_SCHEMES, request.scheme)
    except PluginError as error:
        return ChildReport(cause=str(error), hint=error.hint)
    try:
        if not found.plugin.exists(request.uri):
            cause, hint = "it does not exist", "correct the URI, or point elsewhere with --artifact NAME=URI"
            return ChildReport(cause=cause, hint=hint)
        found.plugin.fetch(request.uri, request.dest)
    except Exception as error:  # noqa: BLE001 - the edge of this process: whatever a plug-in raises is the answer
        failed = found.failed(error)
        return ChildReport(cause=str(failed), hint=failed.hint)
    dest = Path(request.dest)
    if not os.path.lexists(dest):
        cause = f"plug-in {found.label} returned and has made nothing"
        return ChildReport(cause=cause, hint="the package has to be corrected")
    return ChildReport(received_bytes=_size(dest), place=request.dest)


def _watch(dest: Path) -> None:
    last, pause = 0, threading.Event()
    while not pause.wait(LOOKS_EVERY_S):
        size = _size(dest)
        if size > last:
            last = size
            say(ChildReport(received_bytes=size))


def _size(path: Path) -> int:
    """Return the bytes of a file or of all files in a directory; 0 for what is not there."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    total = 0
    for one in paths:
        try:
            total += one.lstat().st_size if not one.is_dir() else 0
        except OSError:
            continue
    return total


if __name__ == "__main__":
    main()

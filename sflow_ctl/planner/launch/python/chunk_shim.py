"""Calls a Python function for each item of a chunk, within one task. Joins `python_shim`, whose source travels to the node.

What an item has returned is kept in a file until the whole chunk has completed, so that another attempt calls the function only
for the others. The standard library of Python 3.8 is all it needs.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sflow_ctl.planner.launch.python.python_shim import (
    FATAL,
    TRANSIENT,
    FatalError,
    _arguments,
    _called,
    _given,
    _outputs,
    _say,
    _status,
    _write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARALLEL_VARIABLE = "SFLOW_CHUNK_PARALLEL"
_KEPT = ".sflow_items"
"""The folder of the task with what its items have returned."""


class _Chunk:
    """The items of this task, and what is known of each."""

    def __init__(self, function: Callable[..., Any], where: str, names: list[str]) -> None:
        self.function, self.where, self.names = function, where, names
        self.items = json.loads(os.environ["SFLOW_ITEM"])
        self.positions = json.loads(os.environ["SFLOW_ITEM_INDEX"])
        self.directory = os.environ.get("SFLOW_TASK_OUTPUT_DIR", ".")
        document = _given()
        self.values, self.inputs = document.get("values", {}), document.get("inputs", {})
        self.statuses: dict[int, int] = {}
        self._source = _source_of(function)

    def run(self) -> int:
        """Call the function for all items that have no result; return the exit status of the task."""
        kept = [self._kept(index) for index in range(len(self.items))]
        self.statuses = {index: one["status"] for index, one in enumerate(kept) if one is not None}
        todo = [index for index in range(len(self.items)) if index not in self.statuses]
        if len(todo) < len(self.items):
            _say(f"{len(self.items) - len(todo)} of {len(self.items)} items were done by an earlier attempt")
        parallel = int(os.environ.get(PARALLEL_VARIABLE, "1"))
        for index, status in self._each(todo, parallel) if parallel > 1 else map(self._in_turn, todo):
            self.statuses[index] = status
            self._say_progress()
        return self._end()

    def _in_turn(self, index: int) -> tuple[int, int]:
        return index, self.call(index)

    def call(self, index: int) -> int:
        """Call the function for one item, and keep what it returns; return the exit status that it would have alone."""
        position, item = self.positions[index], self.items[index]
        before = {
            name: os.environ.get(name) for name in ("SFLOW_ITEM", "SFLOW_ITEM_INDEX", "SFLOW_TASK_OUTPUT_DIR")
        }
        directory = os.path.abspath(os.path.join(self.directory, f"item_{position}"))  # noqa: PTH100, PTH118
        os.environ["SFLOW_ITEM"] = item if isinstance(item, str) else json.dumps(item, separators=(",", ":"))
        os.environ["SFLOW_ITEM_INDEX"] = str(position)
        os.environ["SFLOW_TASK_OUTPUT_DIR"] = directory
        outputs: dict[str, Any] = {}
        try:
            os.makedirs(directory, exist_ok=True)  # noqa: PTH103 - text, as the variable
            given = self._given_to(index)
            outputs = _outputs(
                _called(self.function, _arguments(self.function, self.where, given)), self.names, self.where
            )
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) and 0 < end.code < 256 else 1
            _say(f"its function has ended with {end!r}")
        except Exception as error:  # noqa: BLE001 - the function's own: it decides about its item
            status = _status(error)
        finally:
            for name, value in before.items():
                if value is not None:
                    os.environ[name] = value
            with suppress(OSError):
                os.rmdir(directory)  # noqa: PTH106 - it stays if there is anything in it
        if status:
            _say(f"item {position} failed (status {status})")
        if status in (0, FATAL):
            self._keep(index, {"status": status, "outputs": outputs})
        return status

    def _given_to(self, index: int) -> dict[str, Any]:
        """Return the inputs of one item. Raises: FatalError for one that has no value."""
        given = {}
        for name, value in self.values.items():
            about = self.inputs.get(name, {})
            if index in about.get("lacking", ()):
                raise FatalError(f"its input {name}, from {about.get('from')}, has no value for this item")
            given[name] = value[index] if about.get("is_per_item") else value
        return given

    def _each(self, todo: Sequence[int], parallel: int) -> Any:
        """Call the function for several items at once, each in a process of its own; yield each with its status."""
        left = list(todo)
        running: dict[int, int] = {}
        while left or running:
            while left and len(running) < parallel:
                index = left.pop(0)
                running[self._begin(index)] = index
            pid, how = os.wait()
            ended = running.pop(pid, None)
            if ended is None:
                continue  # of the function's module
            status = os.WEXITSTATUS(how) if os.WIFEXITED(how) else 128 + os.WTERMSIG(how)
            if os.WIFSIGNALED(how):
                name = signal.Signals(os.WTERMSIG(how)).name
                _say(f"item {self.positions[ended]} failed: its process was ended by {name}")
            elif not status and self._kept(ended) is None:
                _say(f"item {self.positions[ended]} failed: its process has ended without a result")
                status = 1
            yield ended, status

    def _begin(self, index: int) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            status = self.call(index)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)

    # ------------------------------------------------------------------ results

    def _path(self, index: int) -> str:
        return os.path.join(self.directory, _KEPT, f"{self.positions[index]}.json")  # noqa: PTH118

    def _digest(self, index: int) -> str:
        """Return what tells a result of this work from one of another function, or of other arguments."""
        try:
            given = self._given_to(index)
        except FatalError:
            given = {}
        said = json.dumps([self.where, self.names, self.items[index], given], sort_keys=True)
        return hashlib.sha256(said.encode() + self._source).hexdigest()

    def _kept(self, index: int) -> Any:
        """Return what an item has returned, or that it fails for ever; None if it is to be called."""
        with suppress(OSError, ValueError):
            kept = json.loads(Path(self._path(index)).read_text(encoding="utf-8"))
            if kept["digest"] == self._digest(index):
                return kept
        return None

    def _keep(self, index: int, result: dict[str, Any]) -> None:
        path = self._path(index)
        part = f"{path}.{os.getpid()}.part"
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        Path(part).write_text(json.dumps({"digest": self._digest(index), **result}), encoding="utf-8")
        os.replace(part, path)  # noqa: PTH105

    def _end(self) -> int:
        """Write the outputs, one entry for each item; return the exit status."""
        kept = [self._kept(index) or {} for index in range(len(self.items))]
        _write({name: [one.get("outputs", {}).get(name) for one in kept] for name in self.names})
        failed = [index for index, status in sorted(self.statuses.items()) if status]
        folder = os.path.join(self.directory, _KEPT)  # noqa: PTH118
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)
            return 0
        statuses = [self.statuses[index] for index in failed]
        shown = ", ".join(str(self.positions[index]) for index in failed[:20])
        more = f" and {len(failed) - 20} more" if len(failed) > 20 else ""
        _say(f"{len(failed)} of {len(self.items)} items failed: {shown}{more}")
        if TRANSIENT in statuses:
            return TRANSIENT
        return next((status for status in statuses if status != FATAL), FATAL)

    def _say_progress(self) -> None:
        """Say how many items are done, where the function itself says nothing."""
        path = os.environ.get("SFLOW_PROGRESS_FILE")
        if path:
            line = json.dumps({"current": len(self.statuses), "total": len(self.items), "message": "items"})
            with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 - old interpreters
                file.write(line + "\n")


def _source_of(function: Callable[..., Any]) -> bytes:
    """Return the text of the function's file; nothing where there is none."""
    with suppress(OSError, TypeError):
        path = inspect.getsourcefile(function)
        if path:
            return Path(path).read_bytes()
    return b""


def run_chunk(function: Callable[..., Any], where: str, names: list[str]) -> int:
    """Call a function for each item of this task; return the exit status."""
    return _Chunk(function, where, names).run()

"""The paths of a sweep's values: what they may name, which exclude each other, and how they are shown.

Pure functions on text, for the rules of the format and for the planner. `lr` is short for `variables.lr`.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

VARIABLES, TASKS = "variables", "tasks"
TASK_FIELDS = ("resources", "timeout", "retries", "variables", "args", "checkpoint")
"""Fields of a task that a cell may change."""
FIXED = {
    "version": "the version of the format is that of the file",
    "workflow": "it is the same for all cells of a run",
    "settings": "settings say how the whole run is started",
    "sweep": "a sweep cannot change itself",
    "backends": "nodes are given to the whole run",
    "artifacts": "artifacts are fetched once for the whole run; sweep a variable that chooses one",
    "operators": "operators are the same for all cells",
    "environments": "environments are the same for all cells; sweep a variable that one of them uses",
    "storage": "targets of uploads are the same for all cells",
    "signatures": "signatures are the same for all cells",
    "secrets": "secrets are the same for all cells",
    "name": "the name of the workflow is that of the run",
    "output_dir": "the output directory is that of the run",
}
"""Roots that a path cannot have, and why."""


class SweepPath(NamedTuple):
    """A path that is spelled out, `("variables", "lr")`, and how the file has it."""

    parts: tuple[str, ...]
    written: str

    @property
    def variable(self) -> str | None:
        """The variable of the document that it names; None for a field of a task."""
        return self.parts[1] if self.parts[0] == VARIABLES else None

    @property
    def text(self) -> str:
        """The path as messages, tables and labels have it: variables by their names."""
        return self.variable or ".".join(self.parts)


def spelled_out(written: str) -> SweepPath:
    """Return a path with the root that a bare name is short for."""
    parts = tuple(written.split("."))
    return SweepPath(parts if len(parts) > 1 else (VARIABLES, written), written)


def overlaps(paths: Iterable[SweepPath]) -> Iterator[tuple[SweepPath, SweepPath]]:
    """Yield pairs of paths of which one is the other, or a part of it: `a.b` and `a.b.c`."""
    for one, other in pairwise(sorted(paths)):
        if other.parts[: len(one.parts)] == one.parts:
            yield one, other

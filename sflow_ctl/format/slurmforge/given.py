"""The values of a foreign file, and which of them nothing has asked for.

Every value is taken, or left with a reason. What is neither is reported as unknown at the end, so nothing is lost unseen.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, field

from sflow_ctl.format.written import variable_value
from sflow_ctl.format.yaml_source import PathKey, Source

Path = tuple[PathKey, ...]
_SHOWN = 60


class Left(Struct, frozen=True):
    """A key that has no counterpart, or another one than its name suggests."""

    where: str
    """`file:line:column`."""
    key: str
    """The key's path, with dots."""
    value: str
    """Its value as it is shown."""
    reason: str
    """Why it is not in the workflow, and what takes its place."""

    @property
    def line(self) -> str:
        """`file:line`."""
        return self.where.rpartition(":")[0]

    @property
    def text(self) -> str:
        """Key, value and reason."""
        return f"{self.key}: {self.value}: {self.reason}"


class Given(Struct):
    """The data of one file."""

    source: Source
    left: list[Left] = field(default_factory=list)
    _taken: set[Path] = field(default_factory=set)

    def at(self, *path: PathKey, default: Any = None) -> Any:
        """Take the value at a path; the default for one that is missing, null or an empty text."""
        self._taken.add(path)
        found = self.peek(*path)
        return default if found is None or found == "" else found

    def peek(self, *path: PathKey) -> Any:
        """Return the value at a path without taking it; None where there is none."""
        found: Any = self.source.data
        for key in path:
            if isinstance(found, Mapping):
                found = found.get(key)
            elif isinstance(found, list) and isinstance(key, int) and key < len(found):
                found = found[key]
            else:
                return None
        return found

    def written(self, *path: PathKey) -> Any:
        """Take a value whose numbers keep the text they are written as."""
        return variable_value(self.at(*path), self.source.node(path), None)

    def has(self, *path: PathKey) -> bool:
        """Return whether there is a value, or an empty one."""
        found: Any = self.source.data
        for key in path:
            if not isinstance(found, Mapping) or key not in found:
                return False
            found = found[key]
        return True

    def mapping(self, *path: PathKey) -> Mapping[str, Any]:
        """Return the mapping at a path, without taking it; an empty one for everything else."""
        found = self.peek(*path)
        return found if isinstance(found, Mapping) else {}

    def texts(self, *path: PathKey) -> list[str]:
        """Take a list of texts; a single text is a list of one."""
        found = self.at(*path, default=[])
        return [str(one) for one in (found if isinstance(found, list) else [found])]

    def leave(self, reason: str, *path: PathKey) -> None:
        """Leave a value, unless it is empty or off."""
        if self.peek(*path) in (None, "", [], {}, False):
            self._taken.add(path)
        else:
            self.say(reason, *path)

    def say(self, reason: str, *path: PathKey) -> None:
        """Note something about a value that is taken all the same."""
        self._taken.add(path)
        left = self._left(path, reason)
        if left not in self.left:
            self.left.append(left)

    def where(self, *path: PathKey) -> str:
        """Return `file:line:column` of the key."""
        return self.source.key_where(path) or str(self.source.path)

    def leave_the_rest(self) -> None:
        """Leave all that nothing has taken."""
        for path in self._leaves(self.source.data, ()):
            if not any(path[:length] in self._taken for length in range(1, len(path) + 1)):
                self.leave("sflow-ctl knows no such key of slurmforge", *path)
        self.left.sort(key=lambda one: [int(part) for part in one.where.rsplit(":", 2)[1:]])

    def _left(self, path: Path, reason: str) -> Left:
        value = " ".join(str(self.peek(*path)).split())
        shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
        return Left(self.where(*path), ".".join(map(str, path)), shown, reason)

    def _leaves(self, data: Any, path: Path) -> Iterator[Path]:
        if isinstance(data, Mapping) and data:
            for key, value in data.items():
                yield from self._leaves(value, (*path, key))
        elif path:
            yield path

"""The names of the copies of a task, made when they are asked for. The planner has them of each task with a count."""

from collections.abc import Container, Iterable, Iterator, Sequence
from typing import overload


class CopyNames(Sequence[str]):
    """The names of a replicated task's copies: `base_0` and so on."""

    __slots__ = ("base", "size")

    def __init__(self, base: str, size: int) -> None:
        self.base, self.size = base, size

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return tuple(f"{self.base}_{number}" for number in range(self.size)[index])
        return f"{self.base}_{range(self.size)[index]}"

    def __iter__(self) -> Iterator[str]:
        return (f"{self.base}_{number}" for number in range(self.size))

    def __contains__(self, name: object) -> bool:
        return self.find(name) is not None

    def find(self, name: object) -> int | None:
        """Return the index of the copy of this name; None if there is none."""
        if not isinstance(name, str):
            return None
        base, _, number = name.rpartition("_")
        if base != self.base or not number.isascii() or not number.isdigit():
            return None
        index = int(number) if len(number) <= len(str(self.size)) else self.size
        return index if index < self.size and number == str(index) else None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CopyNames):
            return (self.base, self.size) == (other.base, other.size)
        return isinstance(other, tuple | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none


class NameSet(Container[str]):
    """Names, some of them those of all copies of a task."""

    __slots__ = ("_copies", "_single")

    def __init__(self, names: Iterable[str | CopyNames]) -> None:
        names = list(names)
        self._single = {name for name in names if isinstance(name, str)}
        self._copies = {copies.base: copies for copies in names if isinstance(copies, CopyNames)}

    def __bool__(self) -> bool:
        return bool(self._single or self._copies)

    def __contains__(self, name: object) -> bool:
        if name in self._single:
            return True
        copies = self._copies.get(name.rpartition("_")[0]) if isinstance(name, str) else None
        return copies is not None and name in copies

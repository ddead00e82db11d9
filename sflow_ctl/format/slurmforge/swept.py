"""The sweep of an old file: its axes and cases as they are written, and what each of their paths becomes.

A swept value becomes a variable. What cannot be one is left, and said.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec import Struct, field

from sflow_ctl.format.slurmforge.axes import Axis, Case, OldSweep
from sflow_ctl.format.slurmforge.given import Given
from sflow_ctl.format.slurmforge.names import Variables, safe_name
from sflow_ctl.format.written import as_written, plain

Place = tuple[str | int, ...]


class OldCase(NamedTuple):
    """A case, and where it is."""

    name: str
    fixed: Mapping[str, Any]
    axes: Mapping[str, Any]
    place: Place


class Swept(Struct):
    """A sweep as it is written."""

    axes: Mapping[str, Any] = field(default_factory=dict)
    place: Place = ()
    cases: list[OldCase] = field(default_factory=list)
    max_runs: int | None = None
    spelled: Callable[[str], tuple[str, ...]] = lambda path: tuple(path.split("."))
    """Returns a path in full."""

    def values(self) -> dict[tuple[str, ...], list[Any]]:
        """Return every swept path with all values that it has."""
        found: dict[tuple[str, ...], list[Any]] = {}
        for path, values, _ in self._all():
            found.setdefault(self.spelled(path), []).extend(values)
        return found

    def name(
        self,
        given: Given,
        variables: Variables,
        can_sweep: Callable[[tuple[str, ...]], str | None],
        words: Mapping[tuple[str, ...], str] = MappingProxyType({}),
    ) -> None:
        """Make a variable for each value that cells change. `words` are names for some paths; `can_sweep` is as of `put`."""
        for path, values in self.values().items():
            if can_sweep(path) is None:
                own = given.written(*path) if given.has(*path) else None
                variables.name(path, values[0] if own is None else own, words.get(path))

    def put(
        self, given: Given, variables: Variables, can_sweep: Callable[[tuple[str, ...]], str | None]
    ) -> OldSweep:
        """Return the sweep with our paths. `can_sweep` says why a path cannot be swept, or None."""

        def new(path: str, *place: str | int) -> str | None:
            full = self.spelled(path)
            reason = can_sweep(full)
            name = variables.of(full)
            if reason is not None or name is None:
                given.leave(reason or "a value of this key cannot be changed by a cell", *place)
                return None
            given.at(*place)
            return name

        def axes(written: Mapping[str, Any], place: Place) -> list[Axis]:
            pairs = [(path, new(path, *place, path)) for path in written]
            return [
                Axis(".".join(self.spelled(path)), name, _values(given, *place, path))
                for path, name in pairs
                if name is not None
            ]

        cases = []
        for case in self.cases:
            fixed = {
                name: given.written(*case.place, "set", path)
                for path in case.fixed
                if (name := new(path, *case.place, "set", path)) is not None
            }
            cases.append(Case(safe_name(case.name), fixed, axes(case.axes, (*case.place, "axes"))))
        return OldSweep(axes(self.axes, self.place), cases, self.max_runs)

    def _all(self) -> Iterator[tuple[str, list[Any], Place]]:
        for path, values in self.axes.items():
            yield path, _listed(values), (*self.place, path)
        for case in self.cases:
            for path, value in case.fixed.items():
                yield path, [value], (*case.place, "set", path)
            for path, values in case.axes.items():
                yield path, _listed(values), (*case.place, "axes", path)


def cases_at(given: Given, *place: str) -> list[OldCase]:
    """Return the cases that are listed at a place."""
    listed = given.peek(*place)
    found = []
    for index, one in enumerate(listed if isinstance(listed, list) else []):
        at: Place = (*place, index)
        if isinstance(one, Mapping):
            name = str(given.at(*at, "name", default=f"case-{index + 1}"))
            found.append(OldCase(name, given.mapping(*at, "set"), given.mapping(*at, "axes"), at))
    return found


def largest(values: list[Any], least: Any) -> Any:
    """Return the largest of some numbers."""
    numbers = [plain(one) for one in values if isinstance(one, int) and not isinstance(one, bool)]
    return max([least, *numbers]) if isinstance(least, int) else max(numbers, default=least)


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


def _values(given: Given, *place: str | int) -> list[Any]:
    written = given.written(*place)
    return _listed(as_written(written) if isinstance(written, str) else written)

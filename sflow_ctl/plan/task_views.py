"""The `task`, `port`, `ports` and `endpoint` of deferred expressions: the nodes, GPUs, ports and outputs of tasks.

`task.X.port.http` is a number, `task.X.ports.http` a list of numbers, `task.X.endpoint.http` is `host:port`
and `task.X.endpoints.http` a list of such; `task.Y.endpoints.http` of a replicated task has those of all
replicas, and `task.Y.outputs.rate` is the list of their outputs. `task.X.service` has the host, port and URL of the first
leased port. `port`, `ports` and `endpoint` are the task's own.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, overload

from msgspec import Struct

from protocol.text.listing import listed
from sflow_ctl.plan.assignment import SERVICE_KEYS, service_view
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.results import FoundOf
from sflow_ctl.plan.words import Collect


class TaskPorts(Struct, frozen=True):
    """The ports of a concrete task, on its first node."""

    address: str
    ports: Mapping[str, Sequence[int]]


PortsOf = Callable[[str], TaskPorts | None]
"""Returns the ports of a concrete task; None while it has none."""


class Chunks(Struct, frozen=True):
    """Copies that are for several items each: where their results belong in a list over all items."""

    positions: Mapping[str, Sequence[int]] = {}
    """The positions of the items, by copy."""
    found: FoundOf = {}

    @classmethod
    def of(cls, tasks: Sequence[Any], bases: Collection[str], found: Mapping[str, Any]) -> "Chunks":
        """Return those among planned tasks; `bases` are the tasks that have items."""
        if not bases:
            return NO_CHUNKS
        from sflow_ctl.plan.parts.chunks import positions_of  # few plans have items

        return cls(positions_of(tasks, bases), found)

    def are_of(self, copies: Sequence[str]) -> bool:
        """Return whether these copies are for several items each."""
        return bool(self.positions) and bool(copies) and copies[0] in self.positions

    def grown(self, other: "Chunks") -> "Chunks":
        """Return these with the copies of others."""
        return Chunks({**self.positions, **other.positions}, self.found) if other.positions else self

    def lacking(self, copy: str, output: str) -> Sequence[int]:
        """Return the entries in an output of a copy that stand for no value."""
        record = self.found.get(copy, {}).get(output)
        return () if record is None else record.lacking

    def spread(
        self, copies: Sequence[str], output: str, values: Sequence[Any], there: Sequence[bool]
    ) -> tuple[list[Any], list[bool]]:
        """Return an output of copies item by item, and for which items it is there. Raises: ExpressionError for a large one."""
        size = sum(len(self.positions[copy]) for copy in copies)
        spread, are_there = [None] * size, [False] * size
        for copy, value, is_there in zip(copies, values, there, strict=True):
            record = self.found.get(copy, {}).get(output)
            if is_there and record is not None and record.is_large:
                hint = "hand it over with an input, or pass large values in files"
                raise ExpressionError(f'output "{output}" of {copy} is too large for expressions', hint)
            where = self.positions[copy]
            if not is_there or not isinstance(value, list) or len(value) != len(where):
                continue
            lacking = self.lacking(copy, output)
            for index, position in enumerate(where):
                spread[position], are_there[position] = value[index], index not in lacking
        return spread, are_there


NO_CHUNKS = Chunks()
PlaceOf = Callable[[str], Mapping[str, Any]]
"""The facts of a concrete task's place that differ from the plan's; empty while it is, or will be, where it was planned."""


def planned_place(_name: str) -> Mapping[str, Any]:
    """Return nothing: every task is where it was planned to be."""
    return {}


class TaskViews(Mapping[str, Any]):
    """The `task` namespace, computed on access."""

    def __init__(
        self,
        facts: Mapping[str, Any],
        outputs: Mapping[str, Mapping[str, Any]],
        port_names: Mapping[str, Collection[str]],
        ports_of: PortsOf,
        note_all: Callable[[str], None] = lambda _base: None,
        place_of: PlaceOf = planned_place,
        collect: Mapping[str, Collect] | None = None,
        chunks: Chunks = NO_CHUNKS,
    ) -> None:
        """`facts` of a replicated task are its replicas' names.

        `port_names` are those of concrete tasks that have any.

        `collect` says of tasks with items what their lists have in place of outputs that are missing.

        `note_all` is called when the ports of all replicas of a task are read.
        """
        self._facts, self._outputs = facts, outputs
        self._port_names, self._ports_of = port_names, ports_of
        self._note_all = note_all
        self._place_of = place_of
        self._collect = {} if collect is None else collect
        self.chunks = chunks

    def grown(
        self,
        facts: Mapping[str, Any],
        port_names: Mapping[str, Collection[str]],
        collect: Mapping[str, Collect],
        chunks: Chunks = NO_CHUNKS,
    ) -> "TaskViews":
        """Return the views of a plan that has grown: these facts in place of those so far, the rest beside those."""
        return TaskViews(
            facts,
            self._outputs,
            {**self._port_names, **port_names} if port_names else self._port_names,
            self._ports_of,
            self._note_all,
            self._place_of,
            {**self._collect, **collect} if collect else self._collect,
            self.chunks.grown(chunks),
        )

    def __getitem__(self, name: str) -> Any:
        facts = self._facts[name]
        if isinstance(facts, list):
            return _Replicas(self, name, facts)
        moved = self._place_of(name)
        view = {**facts, **moved}
        if moved and facts.get("service", {}).get("host"):
            view["service"] = service_view(view["nodes"], facts["service"]["port"])
        if name in self._outputs:
            view["outputs"] = self._outputs[name]
        if name in self._port_names:
            view |= {key: self.ports(name, key) for key in _SHAPES}
            view["service"] = _LeasedService(name, self._port_names[name], self._ports_of)
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def copies_of(self, base: str) -> Sequence[str]:
        """Return the names of the copies of a task."""
        facts = self._facts.get(base, ())
        return facts if isinstance(facts, list) else ()

    def outputs_of(self, base: str, copies: Sequence[str]) -> "Mapping[str, list[Any]]":
        """Return the outputs of all copies by name: lists in the order of the copies."""
        return _Gathered(base, copies, self._outputs, self._collect.get(base, "gap"), self.chunks)

    def ports(self, name: str, shape: str) -> "_Ports":
        """Return the ports of a concrete task in one of their shapes."""
        return _Ports(name, self._port_names.get(name, ()), self._ports_of, _SHAPES[shape])

    def endpoints(self, base: str, replicas: Sequence[str]) -> Mapping[str, list[str]]:
        """Return, by port, the endpoints of all replicas, in their order."""
        self._note_all(base)
        if not replicas:
            return _NoEndpoints()
        names = self._port_names.get(replicas[0], ())
        views = [self.ports(replica, "endpoints") for replica in replicas]
        return {name: [endpoint for view in views for endpoint in view[name]] for name in names}


class _NoEndpoints(dict[str, list[str]]):
    """The endpoints of a task without replicas: an empty list for any port."""

    def __missing__(self, name: str) -> list[str]:
        return []


class _Replicas(Sequence[Any]):
    """The replicas of a task; `endpoints` are those of all of them."""

    def __init__(self, views: TaskViews, base: str, names: list[str]) -> None:
        self._views, self._base, self._names = views, base, names

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._views[name] for name in self._names[index]]
        return self._views[self._names[index]]

    def __len__(self) -> int:
        return len(self._names)

    @property
    def outputs(self) -> Mapping[str, list[Any]]:
        """Return outputs by name, each a list in the order of the replicas."""
        return self._views.outputs_of(self._base, self._names)

    @property
    def endpoints(self) -> Mapping[str, list[str]]:
        """Return endpoints by port."""
        return self._views.endpoints(self._base, self._names)


class _Gathered(Mapping[str, list[Any]]):
    """Maps names of outputs to their values over all copies of a task, null for those without one."""

    def __init__(
        self,
        base: str,
        copies: Sequence[str],
        outputs: Mapping[str, Mapping[str, Any]],
        collect: Collect,
        chunks: Chunks,
    ) -> None:
        self._base, self._copies, self._outputs, self._collect = base, copies, outputs, collect
        self._chunks = chunks

    def __getitem__(self, name: str) -> list[Any]:
        values = [self._outputs.get(copy, {}).get(name) for copy in self._copies]
        there = [name in self._outputs.get(copy, ()) for copy in self._copies]
        if self._chunks.are_of(self._copies):
            values, there = self._chunks.spread(self._copies, name, values, there)
        if self._copies and not any(there) and name not in tuple(self):
            known = ", ".join(self) or "none"
            raise ExpressionError(
                f'no copy of task "{self._base}" has an output "{name}"', f"they have {known}"
            )
        if self._collect == "fail" and not all(there):
            lacking = [str(index) for index, here in enumerate(there) if not here]
            what = f'output "{name}" of task "{self._base}" is missing for item {listed(lacking, 5)}'
            raise ExpressionError(f"{what}, and its list is collect: fail")
        from sflow_ctl.plan.parts.items import gathered  # few expressions ask for one

        return gathered(values, there, self._collect)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for copy in self._copies for name in self._outputs.get(copy, ())))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Ports(Mapping[str, Any]):
    """Maps port names to their values, which are computed on access."""

    def __init__(
        self, task: str, names: Collection[str], ports_of: PortsOf, shape: Callable[[str, Sequence[int]], Any]
    ) -> None:
        self._task, self._names, self._ports_of, self._shape = task, names, ports_of, shape

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            hint = (
                f"it has {', '.join(self._names)}"
                if self._names
                else f"give {self._task} ports: {{{name}: 1}}"
            )
            raise ExpressionError(f'task "{self._task}" has no port "{name}"', hint)
        leased = self._ports_of(self._task)
        if leased is None:
            raise ExpressionError(f'the ports of task "{self._task}" are not known: it has not been started')
        return self._shape(leased.address, leased.ports[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _LeasedService(Mapping[str, Any]):
    """Where a task with leased ports serves: the host, port and URL of its first port, computed on access."""

    def __init__(self, task: str, names: Collection[str], ports_of: PortsOf) -> None:
        first = next(iter(names))
        self._view = _Ports(task, names, ports_of, _service)
        self._first = first

    def __getitem__(self, key: str) -> Any:
        if key not in SERVICE_KEYS:
            raise KeyError(key)
        return self._view[self._first][key]

    def __iter__(self) -> Iterator[str]:
        return iter(SERVICE_KEYS)

    def __len__(self) -> int:
        return len(SERVICE_KEYS)


def _service(address: str, ports: Sequence[int]) -> dict[str, Any]:
    return service_view([{"ip_address": address}], ports[0])


def endpoint(address: str, port: int) -> str:
    """Return `host:port`, with an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


_SHAPES: dict[str, Callable[[str, Sequence[int]], Any]] = {
    "port": lambda _, ports: ports[0],
    "ports": lambda _, ports: list(ports),
    "endpoint": lambda address, ports: endpoint(address, ports[0]),
    "endpoints": lambda address, ports: [endpoint(address, port) for port in ports],
}
OWN = ("port", "ports", "endpoint")
"""The names by which a task's expressions have its own ports."""

"""Which backend each task runs on, with those that a task defines or changes for itself."""

from typing import Any

import msgspec

from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.checking import check
from sflow_ctl.planner.findings import UnplannableError

DEFAULT_BACKEND = schema.Backend(name="local", type="local", default=True)


class Backends:
    """All backends of a document, declared ones first."""

    def __init__(self, document: schema.Document) -> None:
        self.all: list[schema.Backend] = list(document.backends) or [DEFAULT_BACKEND]
        self._by_name = {backend.name: backend for backend in self.all}
        self._default = next((backend for backend in self.all if backend.default), self.all[0])
        self._own: dict[str, schema.Backend] = {}

    def add_own(self, task: schema.Task) -> None:
        """Takes in a task's mapping form: a declared backend with changes, or one of the task's own.

        It has nodes, or an allocation, of its own; tasks with equal mappings share it. Raises: UnplannableError.
        """
        if not isinstance(task.backend, dict):
            return
        overrides = {key: value for key, value in task.backend.items() if value is not None}
        base = self._by_name.get(overrides.get("name", self._default.name))
        body: dict[str, Any] = {**_given(base), **overrides} if base is not None else dict(overrides)
        body["default"] = False
        body["name"] = base.name if base is not None else str(overrides.get("name"))
        if base is not None and set(overrides) <= {"name"}:
            self._own[task.name] = base
            return
        findings: list[Finding] = []
        made = check(schema.Backend, body, (), lambda _: None, findings)
        for finding in findings:
            what = f'task "{task.name}": its own backend: {finding.what}'
            raise UnplannableError(finding.code, what, finding.hint, ("backend",))
        assert made is not None
        equal = next((other for other in self._own.values() if _is_same(other, made)), None)
        if equal is None:
            name = f"{made.name}:{task.name}" if made.name in self._by_name else made.name
            equal = msgspec.structs.replace(made, name=name)
            self.all.append(equal)
        self._own[task.name] = equal

    def of(self, task: schema.Task) -> schema.Backend:
        """The backend of a task whose own one, if it has one, has been added."""
        if isinstance(task.backend, dict):
            return self._own[task.name]
        return self._default if task.backend is None else self._by_name[task.backend]


def _given(backend: schema.Backend) -> dict[str, Any]:
    return {key: value for key, value in msgspec.structs.asdict(backend).items() if value is not None}


def _is_same(own: schema.Backend, made: schema.Backend) -> bool:
    return msgspec.structs.replace(own, name=own.name.partition(":")[0]) == made

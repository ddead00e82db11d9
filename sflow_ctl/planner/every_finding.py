"""Finds everything that is wrong with a workflow at once, although a phase of planning stops at its first problems.

What was wrong is left out of the document, and the rest is planned again, until nothing new comes. What only follows from
what was left out is not reported. Called by the pipeline when planning has failed, and for a document that is wrong before.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from protocol.errors import Finding, PlanError
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.checking import nearest
from sflow_ctl.format.loader import LoadedDocument

MAX_ROUNDS = 12
_OWN = (
    "timeout", "retries", "restart", "on_failure", "critical", "stop", "hang", "success_exit_codes", "log", "probes", "outputs",
    "success", "main", "kind", "script",
)  # fmt: skip
"""Fields of a task that no expression of another field names."""
_OF_TASKS = ("depends_on", "replicas", "ports", "resources", "backend", "operator", "files")
_NAMES_OF_TASKS = lazy_pattern(r"\b(?:task|replica|ports?|endpoints?)\b")
_OF_NAMES = frozenset({"undefined-name", "expression-failed", "hyphen-in-name", "never-ready"})
"""Findings that may only follow from something that was left out."""
_NOTHING = "true"
"""A script in place of a wrong one."""

PlanAttempt = Callable[[LoadedDocument], object]


class _Rest:
    """A document that loses what is wrong with it."""

    def __init__(self, loaded: LoadedDocument) -> None:
        self.loaded = loaded
        self.may_lack_names = False
        """Something was left out that expressions elsewhere may name."""
        self.lacks_names_of_tasks = False
        """Something was left out that only `task`, `replica` and names of ports have in an expression."""
        self.dropped: set[str] = set()
        """Tasks that were left out."""

    def leave_out(self, findings: Sequence[Finding]) -> bool:
        """Leave out what the findings are about; return False if there was nothing to leave out."""
        is_changed = False
        for finding in findings:
            owner = None if finding.where is None else self.loaded.owner(finding.where)
            if owner is None:
                self.may_lack_names |= finding.code != "duplicate-key"
                continue
            section, name, field = owner
            if section == "tasks":
                is_changed |= self._without_task_field(name, field)
            elif section == "workflow":
                is_changed |= self._without_setting(name)
            else:
                self.may_lack_names = True
        return is_changed

    def _without_task_field(self, name: str, field: str) -> bool:
        tasks = self.loaded.document.workflow.tasks
        task = next((one for one in tasks if one.name == name), None)
        if task is None:
            return False
        known = {info.encode_name: info for info in msgspec.structs.fields(schema.Task)}
        meant = field if field in known else nearest(field, list(known)) if field else None
        if field and field not in known:  # a misspelled key: its value is not in the document
            self._note_lack(meant)
            return False
        if not field or field == "name":
            if any(one.name == name and one is not task for one in tasks):  # a name given twice
                self._set_tasks([one for one in tasks if one.name != name or one is task])
                return True
            self._set_tasks([_without_reference(one, name) for one in tasks if one.name != name])
            self.dropped.add(name)
            self.may_lack_names = True
            return True
        info = known[field]
        default: Any = [_NOTHING] if info.name == "script" else _default(info)
        if info.name == "depends_on":  # what depends on tasks that exist may be a part of a cycle
            names = {one.name for one in tasks}
            left = [one for one in task.depends_on if _named(one) in names]
            default = left if len(left) < len(task.depends_on) else default
        if getattr(task, info.name) == default:  # the loader has left it out, or it is not what is wrong
            return False
        changed = msgspec.structs.replace(task, **{info.name: default})
        self._set_tasks([changed if one is task else one for one in tasks])
        self._note_lack(field)
        return True

    def _note_lack(self, field: str | None) -> None:
        """Note which names expressions may lack without a field of a task; None is a field that is not known."""
        if field in _OF_TASKS:
            self.lacks_names_of_tasks = True
        elif field not in _OWN:
            self.may_lack_names = True

    def _without_setting(self, name: str) -> bool:
        workflow = self.loaded.document.workflow
        info = next((one for one in msgspec.structs.fields(schema.Workflow) if one.encode_name == name), None)
        if info is None or info.name in ("name", "tasks") or getattr(workflow, info.name) == _default(info):
            return False
        self._replace(msgspec.structs.replace(workflow, **{info.name: _default(info)}))
        self.may_lack_names |= info.name == "inputs"
        return True

    def _set_tasks(self, tasks: list[schema.Task]) -> None:
        self._replace(msgspec.structs.replace(self.loaded.document.workflow, tasks=tasks))

    def _replace(self, workflow: schema.Workflow) -> None:
        document = msgspec.structs.replace(self.loaded.document, workflow=workflow)
        self.loaded = replace(self.loaded, document=document)

    def follows(self, finding: Finding) -> bool:
        """Return True for a finding that may only follow from what was left out."""
        if any(f'"{name}"' in finding.what for name in self.dropped):
            return True
        is_of_tasks = _NAMES_OF_TASKS.search(finding.what.partition("${{")[2]) is not None
        return (
            self.may_lack_names or (self.lacks_names_of_tasks and is_of_tasks)
        ) and finding.code in _OF_NAMES


def _default(info: msgspec.structs.FieldInfo) -> Any:
    if info.default is not msgspec.NODEFAULT:
        return info.default
    return info.default_factory() if callable(info.default_factory) else None


def _without_reference(task: schema.Task, name: str) -> schema.Task:
    kept = [one for one in task.depends_on if _named(one) != name]
    return msgspec.structs.replace(task, depends_on=kept) if len(kept) < len(task.depends_on) else task


def _named(dependency: str | schema.Dependency) -> str:
    return dependency if isinstance(dependency, str) else dependency.task


def further_findings(loaded: LoadedDocument, first: Sequence[Finding], attempt: PlanAttempt) -> list[Finding]:
    """Return what is wrong besides the findings that are known; `attempt` plans a document, or raises PlanError."""
    rest, found = _Rest(loaded), list(first)
    known = len(found)
    latest = found[:]
    has_planned = False
    for _ in range(MAX_ROUNDS):
        if not rest.leave_out(latest) and has_planned:
            break
        has_planned = True
        if not rest.loaded.document.workflow.tasks:
            break
        try:
            attempt(rest.loaded)
        except PlanError as error:
            latest = [one for one in error.findings if one not in found]
            found += [one for one in latest if not rest.follows(one)]
            if not latest:
                break
        except Exception:  # noqa: BLE001 - the rest of a wrong document may lack what phases rely on
            break
        else:
            break
    return found[known:]

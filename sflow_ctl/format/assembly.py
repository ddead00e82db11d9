"""Builds the checked document from merged entries: every entry by itself, so that one bad entry hides no other.

Called by the loader, after overrides and before the rules.
"""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct, field

from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.checking import Path, Remainder, check
from sflow_ctl.format.merged.extends import extended
from sflow_ctl.format.merged.files import Merged, named_items
from sflow_ctl.format.merged.ignored_keys import without_ignored
from sflow_ctl.format.merged.items import Item
from sflow_ctl.format.merged.required_by import with_required
from sflow_ctl.format.other_words import entry_example

_MAPPINGS = frozenset({"success", "upload_all", "monitor", "inputs", "outputs"})
"""Fields of the workflow that have fields of their own."""
P = TypeVar("P", bound=schema.Part)


class Assembly(Struct):
    """The document made of all valid entries, or None if it lacks a name or version."""

    document: schema.Document | None = None
    items: dict[tuple[str, str], Item] = field(default_factory=dict)
    """Section and name to entry, for places in messages."""
    broken: frozenset[str] = frozenset()
    """Names of entries with findings; what refers to them only follows from those."""
    ignored: list[Finding] = field(default_factory=list)
    """Takes the findings about keys that are ignored."""
    incomplete: list[Path] = field(default_factory=list)
    """Paths of mappings inside entries that lack a wrong value."""


def assemble(merged: Merged, refuses_ignored: bool = False) -> Assembly:
    """Convert every entry; problems are added to `merged.findings`."""
    result = Assembly(ignored=merged.findings if refuses_ignored else merged.warnings)
    sections = _sections(merged, result)
    _check_version(merged)
    settings = _workflow_settings(merged)
    said = {key: value for key, (value, _) in merged.site.items() if value is not None}
    site = check(schema.Settings, said, ("settings",), merged.site_where, merged.findings)
    sweep = _sweep(merged, result)
    result.broken = _broken_names(merged, sections)
    if not isinstance(merged.workflow_name, str) or merged.version is None:
        return result
    sources = (
        {}
        if merged.workflow is None
        else {key: merged.workflow.layer_of((key,)).source for key in merged.workflow.body if key != "name"}
    )
    for key, source in (("name", merged.workflow_source), *sources.items()):
        if source is not None:
            is_value = key not in _MAPPINGS
            item = Item(key, {}, source, ("workflow", key), is_shorthand=is_value)
            result.items["workflow", key] = item
    own, tasks = sections.pop("workflow.variables"), sections.pop("tasks")
    blocks = sections.pop("workflow.blocks")
    workflow = schema.Workflow(
        name=merged.workflow_name, tasks=tasks, blocks=blocks, variables=own, **settings
    )
    result.document = schema.Document(
        version=merged.version,
        workflow=workflow,
        sweep=sweep,
        settings=site,
        secrets=merged.secrets,
        include={},  # what they have is in `workflow`
        **sections,
    )
    return result


def _sections(merged: Merged, result: Assembly) -> dict[str, list[Any]]:
    """Convert the entries of all named sections."""
    for task in merged.tasks:
        listed = task.body.get("variables")
        if isinstance(listed, dict):  # those of a preset
            inner = named_items(task.source, (*task.path, "variables"), listed, merged.findings)
            task.body["variables"] = [variable.body for variable in inner]
    of = merged.sections
    return {
        "variables": _convert(merged, "variables", of["variables"], schema.Variable, result),
        "artifacts": _convert(merged, "artifacts", of["artifacts"], schema.Artifact, result),
        "backends": _convert(merged, "backends", of["backends"], schema.Backend, result),
        "operators": _convert(
            merged, "operators", extended(of["operators"], merged.findings), schema.Operator, result
        ),
        "environments": _convert(merged, "environments", of["environments"], schema.Environment, result),
        "storage": _convert(merged, "storage", of["storage"], schema.Storage, result),
        "signatures": _convert(merged, "signatures", of["signatures"], schema.Signature, result),
        "workflow.variables": _convert(
            merged, "workflow.variables", merged.workflow_variables, schema.Variable, result
        ),
        "workflow.blocks": _convert(merged, "blocks", merged.blocks, schema.TaskBlock, result),
        "tasks": _convert(merged, "tasks", merged.tasks, schema.Task, result),
    }


def _convert(merged: Merged, section: str, items: list[Item], kind: type[P], whole: Assembly) -> list[P]:
    """Return the entries, wrong ones without what is wrong where that is possible."""
    result = []
    usual = _Usual(kind)
    for item in items:
        whole.items.setdefault((section, item.name), item)
        if item.is_shorthand and kind is not schema.Variable:
            what = f'"{item.name}" must be a mapping'
            merged.findings.append(Finding("wrong-type", what, item.where(), entry_example(section)))
            continue
        remainders: list[Remainder] = []
        body = (
            _task_body(item, merged.findings)
            if section == "tasks"
            else without_ignored(section, item, whole.ignored)
        )
        checked = check(kind, body, item.path, item.place, merged.findings, remainders)
        if checked is not None:
            result.append(usual.sharing(checked, body))
        for remainder in remainders:
            result.append(remainder.value)
            whole.incomplete += [path[:-1] for path in remainder.removed if len(path) > len(item.path) + 1]
    return result


class _Usual(Generic[P]):
    """What the entries of a section have in common: the values of fields that no file gives.

    Each of 100,000 tasks would have some fifteen empty lists and mappings of its own.
    """

    def __init__(self, kind: type[P]) -> None:
        self._attributes = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
        self._first: P | None = None
        self._first_gives = frozenset[str]()

    def sharing(self, entry: P, body: Mapping[str, Any]) -> P:
        """Return an entry that is made of a body, with the first entry's values of fields that neither gives."""
        if self._first is None:
            self._first, self._first_gives = entry, frozenset(body)
            return entry
        names = map(self._attributes.__getitem__, self._first_gives.union(body))
        return msgspec.structs.replace(self._first, **{name: getattr(entry, name) for name in names})


def _task_body(item: Item, findings: list[Finding]) -> dict[str, Any]:
    """Return a task as it is checked: with what others say of it, and with the script that its function has."""
    body = with_required(item)
    if body.get("block") is not None:
        return body if "script" in body or "python" in body else {**body, "script": [":"]}
    if "external" in body:
        from sflow_ctl.format.merged.external_tasks import with_start  # few tasks are

        return with_start(body, item, findings)
    if "python" not in body:
        return body
    from sflow_ctl.format.merged.python_tasks import with_script  # few tasks are functions

    return with_script(body, item, findings)


def _check_version(merged: Merged) -> None:
    if merged.version is None or merged.version == schema.VERSION:
        return
    assert merged.version_source is not None
    where = f"{merged.version_source.where(('version',))}  version"
    if isinstance(merged.version, str):
        what = f"Version {merged.version} is not supported"
        finding = Finding("unsupported-version", what, where, f'use "{schema.VERSION}"')
    else:
        hint = f'quote it: version: "{schema.VERSION}"'
        finding = Finding("wrong-type", "expected text, found a number", where, hint)
    merged.findings.append(finding)


def _workflow_settings(merged: Merged) -> dict[str, Any]:
    """Return the valid fields of the workflow itself."""
    name = merged.workflow_name
    if name is not None and not isinstance(name, str) and merged.workflow_source is not None:
        where = f"{merged.workflow_source.where(('workflow', 'name'))}  workflow.name"
        what = "expected text as workflow.name"
        merged.findings.append(Finding("wrong-type", what, where, "put it in quotes"))
    settings = {}
    given = merged.workflow
    for key, value in {} if given is None else given.body.items():
        assert given is not None
        kind = schema.WorkflowSettings
        checked = check(kind, {key: value}, ("workflow",), given.place, merged.findings)
        if checked is not None and value is not None:
            settings[key] = getattr(checked, key)
    return settings


def _sweep(merged: Merged, result: Assembly) -> schema.Sweep | None:
    """Return the workflow's sweep; None without one, or for one that is wrong."""
    item = merged.sweep
    if item is None:
        return None
    result.items["sweep", "sweep"] = item
    return check(schema.Sweep, item.body, item.path, item.place, merged.findings)


def _broken_names(merged: Merged, sections: dict[str, list[Any]]) -> frozenset[str]:
    """Return the names of entries that could not be converted."""
    given = [*merged.tasks, *merged.blocks, *merged.workflow_variables]
    given += [item for section in merged.sections.values() for item in section]
    names = {one.name for converted in sections.values() for one in converted}
    return frozenset(item.name for item in given if item.name not in names)

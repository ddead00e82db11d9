"""Merges files, in mapping or list form, into one shape: named items that know their places.

Only shapes are checked here; the loader converts and checks what is inside the items.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from protocol.errors import Finding
from sflow_ctl.format.checking import check, meant_key
from sflow_ctl.format.field_lookup import dotted
from sflow_ctl.format.merged.deep_merge import MergedLeaf, merge_item, settle_variable
from sflow_ctl.format.merged.items import Item
from sflow_ctl.format.merged.script_lines import restore_lines
from sflow_ctl.format.merged.short_forms import (
    expand_short_forms,
    with_long_backend,
    with_long_environment,
    with_long_monitor,
    with_long_notify,
    with_long_values,
)
from sflow_ctl.format.other_words import elsewhere, entry_example, example_of
from sflow_ctl.format.schema import Task, WorkflowSettings
from sflow_ctl.format.written import variable_value
from sflow_ctl.format.yaml_source import PathKey, Source
from sflow_ctl.format.yaml_values import members_of

ROOT_KEYS = (
    "version", "include", "sweep", "settings", "variables", "artifacts", "backends", "operators", "environments", "storage",
    "signatures", "secrets", "workflow",
)  # fmt: skip
SETTINGS = WorkflowSettings.__struct_encode_fields__
WORKFLOW_KEYS = ("name", "tasks", "blocks", "variables", *SETTINGS)
_LONG_FORMS = {"backends": with_long_backend, "environments": with_long_environment}
USES, WITH = "uses", "with"
"""Keys of a task that is made from a preset."""
TOP_SECTIONS = ("variables", "artifacts", "backends", "operators", "environments", "storage", "signatures")


class Merged(Struct):
    """All files together, still unchecked."""

    sources: list[Source]
    version: Any = None
    version_source: Source | None = None
    workflow_name: Any = None
    workflow_source: Source | None = None
    workflow: Item | None = None
    """The workflow's other fields."""
    sweep: Item | None = None
    """The workflow's sweep."""
    site: dict[str, tuple[Any, Source]] = field(default_factory=dict)
    """Entries of `settings:`, each from the last file that has it."""
    sections: dict[str, list[Item]] = field(default_factory=lambda: {name: [] for name in TOP_SECTIONS})
    secrets: list[str] = field(default_factory=list)
    workflow_variables: list[Item] = field(default_factory=list)
    tasks: list[Item] = field(default_factory=list)
    blocks: list[Item] = field(default_factory=list)
    written_blocks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name of a block to its body as a file has it."""
    included: dict[str, Source] = field(default_factory=dict)
    """Prefix to the file whose blocks have it."""
    warnings: list[Finding] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    """Facts about the file that only its plan shows."""
    changes: list[MergedLeaf] = field(default_factory=list)
    """Leaves to which a later file gave another value."""

    def site_where(self, path: Sequence[PathKey]) -> str | None:
        """Return `file:line:column` of `("settings", key, ...)` in the file whose value counts."""
        found = self.site.get(str(path[1])) if len(path) > 1 else None
        return None if found is None else found[1].where(path)

    def secret_where(self, name: str) -> str | None:
        """Return `file:line:column  secrets[index]` of a secret's name."""
        for source in self.sources:
            given = source.data.get("secrets") if isinstance(source.data, dict) else None
            if isinstance(given, list) and name in given:
                path = ("secrets", given.index(name))
                return f"{source.where(path)}  {dotted(path)}"
        return None


def merge(sources: Sequence[Source]) -> Merged:
    """Return one document of all files, in order; wrong shapes are in its `findings`."""
    merged = Merged(list(sources))
    for source in sources:
        if not isinstance(source.data, dict):
            from sflow_ctl.format.yaml_problems import sheet_problem

            sheet = sheet_problem(str(source.path))
            merged.findings.append(sheet or _shape(source, (), "a workflow file must be a mapping"))
            continue
        _unknown_keys(merged, source, (), source.data, ROOT_KEYS)
        _take_scalar(merged, source, "version")
        _take_site(merged, source)
        _take_sweep(merged, source)
        _take_secrets(merged, source)
        for section in TOP_SECTIONS:
            read = variable_items if section == "variables" else named_items
            items = read(source, (section,), source.data.get(section), merged.findings)
            for item in items if section in _LONG_FORMS else ():
                item.body = _LONG_FORMS[section](item.body)
                _take_variables(item, ())
            _merge_named(merged, merged.sections[section], items, (section,))
        _take_workflow(merged, source)
        if source.data.get("include") is not None:
            from sflow_ctl.format.merged.includes import take_includes  # few files include others

            take_includes(merged, source)
    for item in (*merged.sections["variables"], *merged.workflow_variables):
        settle_variable(item)
    merged.warnings += [change.warning(merged.secrets) for change in merged.changes]
    _require(merged)
    return merged


def named_items(
    source: Source, path: tuple[PathKey, ...], data: Any, findings: list[Finding], allow_values: bool = True
) -> list[Item]:
    """Return the entries of a section in either form. A body that is not a mapping is the value of a variable."""
    items: list[Item] = []
    if data is None:
        return items
    if isinstance(data, dict):
        for key, body in data.items():
            if not isinstance(key, str):
                findings.append(
                    Finding(
                        "wrong-type",
                        f'the name "{key}" is not text',
                        source.key_where((*path, str(key))),
                        "quote it",
                    )
                )
            elif isinstance(body, dict):
                items.append(Item(key, {**body, "name": key}, source, (*path, key)))
            elif not allow_values:
                findings.append(_shape(source, (*path, key), f'"{key}" must be a mapping'))
            else:
                items.append(Item(key, {"name": key, "value": body}, source, (*path, key), is_shorthand=True))
        return items
    if not isinstance(data, list):
        findings.append(_shape(source, path, f"{dotted(path)} must be a list or a mapping"))
        return items
    for index, body in enumerate(data):
        if not isinstance(body, dict):
            findings.append(
                _shape(source, (*path, index), "every entry of this list must be a mapping with a name")
            )
        elif not isinstance(body.get("name"), str):
            from sflow_ctl.format.yaml_problems import nameless

            findings.append(nameless(source, (*path, index), "name" in body))
        else:
            items.append(Item(body["name"], dict(body), source, (*path, index)))
    return items


def variable_items(
    source: Source, path: tuple[PathKey, ...], data: Any, findings: list[Finding]
) -> list[Item]:
    """Return the variables of a section, their values with the text they were written as."""
    items = named_items(source, path, data, findings)
    for item in items:
        kind = item.body.get("type")
        place = item.path if item.is_shorthand else (*item.path, "value")
        if "value" in item.body:
            item.body["value"] = variable_value(item.body["value"], source.node(place), kind)
        domain = item.body.get("domain")
        if isinstance(domain, list):
            nodes = members_of(source.node((*item.path, "domain")))
            item.body["domain"] = [
                variable_value(member, nodes.get(index), kind) for index, member in enumerate(domain)
            ]
    return items


def _take_workflow(merged: Merged, source: Source) -> None:
    workflow = source.data.get("workflow")
    if workflow is None:
        return
    if not isinstance(workflow, dict):
        merged.findings.append(_shape(source, ("workflow",), "workflow must be a mapping"))
        return
    _unknown_keys(merged, source, ("workflow",), workflow, WORKFLOW_KEYS)
    if isinstance(workflow.get("monitor"), dict):
        workflow = {**workflow, "monitor": with_long_monitor(workflow["monitor"])}
    if "notify" in workflow:
        workflow = {**workflow, "notify": with_long_notify(workflow["notify"])}
    if not workflow.keys().isdisjoint(("inputs", "outputs", "packages")):
        workflow = with_long_values(workflow)
    _take_name(merged, source, workflow.get("name"))
    given = {key: workflow[key] for key in SETTINGS if workflow.get(key) is not None}
    fields = Item("workflow", given, source, ("workflow",))
    if merged.workflow is None:
        merged.workflow = fields
    else:
        merged.changes += merge_item(merged.workflow, fields, ("workflow",))
    variables = variable_items(source, ("workflow", "variables"), workflow.get("variables"), merged.findings)
    _merge_named(merged, merged.workflow_variables, variables, ("workflow", "variables"))
    tasks = named_items(
        source, ("workflow", "tasks"), workflow.get("tasks"), merged.findings, allow_values=False
    )
    for task in tasks:
        prepare_task(merged, task)
    merge_tasks(merged, tasks)
    if workflow.get("blocks") is not None:
        from sflow_ctl.format.merged.blocks import take_blocks  # few files have some

        take_blocks(merged, source, workflow["blocks"])


def prepare_task(merged: Merged, task: Item) -> None:
    """Give a task of a file its long form."""
    restore_lines(task, merged.warnings)
    expand_short_forms(task.body)
    _take_values(task, merged.findings)


def _take_name(merged: Merged, source: Source, name: Any) -> None:
    """Take the workflow's name; the last file's counts."""
    if name is None:
        return
    if merged.workflow_source is not None and merged.workflow_name != name:
        old_file = str(merged.workflow_source.path)
        path = ("workflow", "name")
        where = source.where(path) or str(source.path)
        merged.changes.append(MergedLeaf(path, merged.workflow_name, name, old_file, where))
    merged.workflow_name, merged.workflow_source = name, source


def merge_tasks(merged: Merged, tasks: Sequence[Item]) -> None:
    """Merge a file's tasks into those of earlier files. Two of one name in one file stay two, which is refused later."""
    earlier = {task.name: task for task in merged.tasks}
    seen: set[str] = set()
    for task in tasks:
        if task.name in earlier and task.name not in seen:
            shown = ("workflow", "tasks", task.name)
            merged.changes += merge_item(earlier[task.name], task, shown)
        else:
            merged.tasks.append(task)
        seen.add(task.name)


def _take_values(task: Item, findings: list[Finding]) -> None:
    """Give a task's variables, and the parameters of its preset, the text they were written as."""
    listed, given = task.body.get("variables"), task.body.get(WITH)
    if isinstance(task.body.get("environment"), dict):
        _take_variables(task, ("environment",))
    for key in ("sweep", "args"):
        if isinstance(task.body.get(key), dict):
            task.body[key] = variable_value(task.body[key], task.source.node((*task.path, key)), None)
    if isinstance(listed, list | dict):
        is_whole = isinstance(listed, dict) or all(
            isinstance(one, dict) and isinstance(one.get("name"), str) for one in listed
        )
        if is_whole:  # problems of other names are found where they are converted
            items = variable_items(task.source, (*task.path, "variables"), listed, findings)
            task.body["variables"] = [item.body for item in items]
    if isinstance(given, dict):
        task.body[WITH] = {
            key: variable_value(value, task.source.node((*task.path, WITH, key)), None)
            for key, value in given.items()
        }


def _take_variables(item: Item, path: tuple[str, ...]) -> None:
    """Give the variables of an environment at `path` in an entry the text they were written as."""
    steps = item.body[path[0]] if path else item.body
    if isinstance(steps.get("env"), dict):
        steps["env"] = variable_value(steps["env"], item.source.node((*item.path, *path, "env")), None)


def _merge_named(merged: Merged, existing: list[Item], items: list[Item], section: tuple[str, ...]) -> None:
    """Merge a file's entries into those of earlier files, by name; within one file the last of a name counts.

    Two targets of uploads with one name are an error: results would go to the wrong one.
    """
    position = {item.name: index for index, item in enumerate(existing)}
    seen: set[str] = set()
    for item in items:
        index = position.get(item.name)
        if index is None:
            position[item.name] = len(existing)
            existing.append(item)
        elif item.name in seen:
            earlier = existing[index].where().partition("  ")[0]
            if section == ("storage",):
                what = f'Duplicate storage target names found: "{item.name}" is also at {earlier}'
                merged.findings.append(Finding("duplicate-key", what, item.where(), "rename one of them"))
                continue
            what = f'{dotted(section)} "{item.name}" is defined again; it replaces the one at {earlier}'
            merged.warnings.append(Finding("defined-again", what, item.where()))
            existing[index] = item
        else:
            merged.changes += merge_item(existing[index], item, (*section, item.name))
        seen.add(item.name)


def _take_scalar(merged: Merged, source: Source, key: str) -> None:
    value = source.data.get(key)
    if value is None:
        return
    if merged.version not in (None, value):
        what = f'Version conflict: "{merged.version}" and "{value}"'
        merged.findings.append(
            Finding("merge-conflict", what, source.where((key,)), 'use version "0.1" everywhere')
        )
        return
    merged.version, merged.version_source = value, source


def _take_site(merged: Merged, source: Source) -> None:
    settings = source.data.get("settings")
    if settings is None:
        return
    if not isinstance(settings, dict):
        merged.findings.append(_shape(source, ("settings",), "settings must be a mapping"))
        return
    merged.site.update({key: (value, source) for key, value in settings.items()})


def _take_sweep(merged: Merged, source: Source) -> None:
    """Take the workflow's sweep; mappings of several files are merged."""
    sweep = source.data.get("sweep")
    if sweep is None:
        return
    if not isinstance(sweep, dict):
        merged.findings.append(_shape(source, ("sweep",), "sweep must be a mapping"))
        return
    item = Item("sweep", variable_value(sweep, source.node(("sweep",)), None), source, ("sweep",))
    if merged.sweep is None:
        merged.sweep = item
    else:
        merged.changes += merge_item(merged.sweep, item, ("sweep",))


def _take_secrets(merged: Merged, source: Source) -> None:
    """Add the secrets of a file to those of the others."""
    given = source.data.get("secrets")
    names = None if given is None else check(list[str], given, ("secrets",), source.where, merged.findings)
    merged.secrets += [name for name in names or () if name not in merged.secrets]


def _require(merged: Merged) -> None:
    missing = []
    if merged.version is None:
        missing.append("version")
    if merged.workflow_name is None:
        missing.append("workflow.name")
    if not merged.tasks:
        missing.append("workflow.tasks")
    if missing and not merged.findings:
        files = ", ".join(str(source.path) for source in merged.sources)
        what = f"the workflow is incomplete: {', '.join(missing)} missing"
        hint = "a file needs at least version, workflow.name and tasks"
        if missing == ["version"]:
            hint = 'begin it with version: "0.1"'
        merged.findings.append(Finding("missing-key", what, files, hint))


def _unknown_keys(
    merged: Merged, source: Source, path: tuple[PathKey, ...], data: dict[Any, Any], allowed: tuple[str, ...]
) -> None:
    for key in data:
        if key not in allowed:
            full = (*path, str(key))
            where, hint = f"{source.key_where(full)}  {dotted(full)}", _hint_of_key(str(key), path, allowed)
            merged.findings.append(Finding("unknown-key", f'unknown key "{key}"', where, hint))


def _hint_of_key(key: str, path: tuple[PathKey, ...], allowed: tuple[str, ...]) -> str | None:
    if not path and key in WORKFLOW_KEYS:
        return f"it belongs below workflow: indent it, as in workflow: {{name: ..., {key}: ...}}"
    if path and key in ROOT_KEYS:
        return "it belongs at the beginning of a line, beside workflow"
    if key in Task.__struct_encode_fields__:
        return f"it is a field of a task, as in tasks: [{{name: ..., {key}: ...}}]"
    meant = meant_key(key, allowed)
    other = elsewhere(key, allowed) or f"allowed here: {', '.join(allowed)}"
    return f'did you mean "{meant}"?' if meant else other


def _shape(source: Source, path: tuple[PathKey, ...], what: str) -> Finding:
    field_name = dotted(path)
    place = source.where(path) or str(source.path)
    hint = example_of(path[-1]) if path else "e.g. " + str(example_of("workflow"))
    if len(path) > 1:
        hint = entry_example(str(path[-2])) or hint
    return Finding("wrong-type", what, f"{place}  {field_name}" if field_name else place, hint)

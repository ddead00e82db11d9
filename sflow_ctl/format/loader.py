"""Workflow files to a checked document. Everything that is wrong is found and reported at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from protocol.errors import Finding, SpecError
from sflow_ctl.format import schema
from sflow_ctl.format.checking import MAX_FINDINGS, check, describe
from sflow_ctl.format.expressions.templates import (
    ExpressionError,
    check_syntax,
    check_template,
    has_expression,
)
from sflow_ctl.format.extends import extended
from sflow_ctl.format.merging import USES, WITH, Item, Merged, merge, named_items
from sflow_ctl.format.overrides import apply_artifacts, apply_set, strip_missable
from sflow_ctl.format.rules import check_rules
from sflow_ctl.format.yaml_source import PathKey, dump, read_source

P = TypeVar("P", bound=schema.Part)


@dataclass(slots=True)
class LoadedDocument:
    """A checked document, and where everything in it stands."""

    document: schema.Document
    warnings: tuple[str, ...]
    _items: dict[tuple[str, str], Item] = field(default_factory=dict)
    _text: str | None = None
    _merged: Merged | None = None

    def where(self, section: str, name: str, *path: PathKey) -> str:
        """`file:line:column  section.name.field` of an entry; section is "tasks", "variables", ..."""
        item = self._items.get((section, name))
        return f"{section}.{name}" if item is None else item.where(*path)

    @property
    def site_settings(self) -> dict[str, Any]:
        """What the files say under `settings:`, key by key."""
        return {} if self._merged is None else {key: value for key, (value, _) in self._merged.site.items()}

    def site_settings_where(self, path: Sequence[PathKey]) -> str | None:
        """`file:line:column` of `("settings", key, ...)`."""
        return None if self._merged is None else self._merged.site_where(path)

    def composed_yaml(self) -> str:
        """The document as one file: the original text where there was only one and nothing was overridden."""
        if self._text is not None:
            return self._text
        return dump(self.composed_data())

    def composed_data(self) -> dict[str, Any]:
        """The merged document as plain data in list form, overrides applied, expressions as written."""
        assert self._merged is not None
        return _composed(self._merged)


def load_documents(
    paths: Sequence[Path],
    overrides: Sequence[str] = (),
    artifact_overrides: Sequence[str] = (),
    missable: Sequence[str] = (),
    *,
    is_strict: bool = False,
) -> LoadedDocument:
    """Reads, merges, overrides and checks; `is_strict` is `--compat strict`. Raises: SpecError with all findings."""
    sources, findings = [], []
    for path in paths:
        source, problems = read_source(path)
        findings += problems
        if source is not None:
            sources.append(source)
    if findings:
        raise SpecError(findings)
    merged = merge(sources)
    if any(USES in item.body or WITH in item.body for item in merged.tasks):
        from sflow_ctl.format.presets import expand_presets  # only those who use some pay for them

        expand_presets(merged.tasks, merged.findings)
    _check_expressions(merged)
    if not merged.findings:
        apply_set(merged, overrides, is_strict)
        apply_artifacts(merged, artifact_overrides)
        strip_missable(merged, missable)
    document, items, broken = _checked(merged)
    if document is not None:
        found = check_rules(document, lambda section, name, *path: items[section, name].where(*path))
        # What names an entry that has findings of its own only follows from those.
        merged.findings += [one for one in found if not any(f'"{name}"' in one.what for name in broken)]
    if merged.findings:
        raise SpecError(merged.findings[:MAX_FINDINGS])
    assert document is not None
    is_as_written = len(paths) == 1 and not (overrides or artifact_overrides or missable)
    text = merged.sources[0].text if is_as_written else None
    return LoadedDocument(document, tuple(merged.warnings), items, text, merged)


def _checked(
    merged: Merged,
) -> tuple[schema.Document | None, dict[tuple[str, str], Item], frozenset[str]]:
    """The document of all entries that are right by themselves, where entries stand, and which are not right."""
    items: dict[tuple[str, str], Item] = {}
    variables = _convert(merged, "variables", merged.sections["variables"], schema.Variable, items)
    artifacts = _convert(merged, "artifacts", merged.sections["artifacts"], schema.Artifact, items)
    backends = _convert(merged, "backends", merged.sections["backends"], schema.Backend, items)
    listed_operators = extended(merged.sections["operators"], merged.findings)
    operators = _convert(merged, "operators", listed_operators, schema.Operator, items)
    signatures = _convert(merged, "signatures", merged.sections["signatures"], schema.Signature, items)
    own = _convert(merged, "workflow.variables", merged.workflow_variables, schema.Variable, items)
    for item in merged.tasks:
        listed = item.body.get("variables")
        if isinstance(listed, dict):
            inner = named_items(item.source, (*item.path, "variables"), listed, merged.findings)
            item.body["variables"] = [variable.body for variable in inner]
    tasks = _convert(merged, "tasks", merged.tasks, schema.Task, items)
    if merged.version is not None and merged.version != schema.VersionText:
        assert merged.version_source is not None
        where = f"{merged.version_source.where(('version',))}  version"
        if isinstance(merged.version, str):
            finding = Finding(
                "unsupported-version", f"Version {merged.version} is not supported", where, 'use "0.1"'
            )
        else:
            finding = Finding(
                "wrong-type", "expected text, found a number", where, 'quote it: version: "0.1"'
            )
        merged.findings.append(finding)
    settings = _settings(merged)
    said = {key: value for key, (value, _) in merged.site.items() if value is not None}
    site = check(schema.Settings, said, ("settings",), merged.site_where, merged.findings)
    given = [*merged.tasks, *merged.workflow_variables]
    given += [item for section in merged.sections.values() for item in section]
    names = {one.name for one in (*variables, *own)} | {one.name for one in tasks}
    names |= (
        {one.name for one in artifacts} | {one.name for one in backends} | {one.name for one in operators}
    )
    broken = frozenset(item.name for item in given if item.name not in names)
    if merged.workflow_name is None or not isinstance(merged.workflow_name, str) or merged.version is None:
        return None, items, broken
    sources = {key: source for key, (_, source) in merged.settings.items()}
    for key, source in (("name", merged.workflow_source), *sources.items()):
        if source is not None:
            is_value = key != "success"
            items["workflow", key] = Item(key, {}, source, ("workflow", key), is_shorthand=is_value)
    workflow = schema.Workflow(name=merged.workflow_name, tasks=tasks, variables=own, **settings)
    document = schema.Document(
        version=merged.version,
        workflow=workflow,
        settings=site,
        variables=variables,
        artifacts=artifacts,
        backends=backends,
        operators=operators,
        signatures=signatures,
    )
    return document, items, broken


def _settings(merged: Merged) -> dict[str, Any]:
    """The workflow's own fields that are right."""
    name = merged.workflow_name
    if name is not None and not isinstance(name, str) and merged.workflow_source is not None:
        where = f"{merged.workflow_source.where(('workflow', 'name'))}  workflow.name"
        merged.findings.append(
            Finding("wrong-type", "expected text as workflow.name", where, "put it in quotes")
        )
    settings = {}
    for key, (value, source) in merged.settings.items():
        kind = schema.WorkflowSettings
        checked = check(kind, {key: value}, ("workflow",), source.where, merged.findings)
        if checked is not None and value is not None:
            settings[key] = getattr(checked, key)
    return settings


def _convert(
    merged: Merged, section: str, items: list[Item], kind: type[P], index: dict[tuple[str, str], Item]
) -> list[P]:
    result = []
    for item in items:
        index.setdefault((section, item.name), item)
        where = item.source.where
        if item.is_shorthand and kind is not schema.Variable:
            text = f"{item.where()}"
            merged.findings.append(Finding("wrong-type", f'"{item.name}" must be a mapping', text))
            continue
        checked = check(kind, item.body, item.path, where, merged.findings)
        if checked is not None:
            result.append(checked)
    return result


def _check_expressions(merged: Merged) -> None:
    for source in merged.sources:
        for path, text in _texts(source.data, ()):
            is_content = len(path) >= 2 and path[0] == "artifacts" and path[-1] == "content"
            is_content = is_content or (path[:2] == ("workflow", "tasks") and "files" in path[3:4])
            try:
                if is_content:
                    check_template(text)
                else:
                    check_syntax(text)
            except ExpressionError as error:
                place = f"{source.where(path)}  {describe(path)}"
                hint = error.hint or "correct what stands between ${{ and }}"
                merged.findings.append(Finding("expression-syntax", _with_phrase(error.text), place, hint))


def _with_phrase(text: str) -> str:
    phrase = "expression syntax validation failed"
    return text if phrase in text else f"{phrase}: {text}"


def _texts(data: Any, path: tuple[PathKey, ...]) -> Iterator[tuple[tuple[PathKey, ...], str]]:
    if isinstance(data, str):
        if has_expression(data):
            yield path, data
    elif isinstance(data, dict):
        for key, value in data.items():
            if not isinstance(value, int | float):
                yield from _texts(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _texts(value, (*path, index))


def _composed(merged: Merged) -> dict[str, Any]:
    composed: dict[str, Any] = {"version": merged.version}
    if merged.site:
        composed["settings"] = {key: value for key, (value, _) in merged.site.items()}
    for section, items in merged.sections.items():
        if items:
            composed[section] = [_named_first(item) for item in items]
    workflow: dict[str, Any] = {"name": merged.workflow_name}
    workflow |= {key: value for key, (value, _) in merged.settings.items() if value is not None}
    if merged.workflow_variables:
        workflow["variables"] = [_named_first(item) for item in merged.workflow_variables]
    workflow["tasks"] = [_named_first(item) for item in merged.tasks]
    return {**composed, "workflow": workflow}


def _named_first(item: Item) -> dict[str, Any]:
    return {"name": item.name, **{key: value for key, value in item.body.items() if key != "name"}}

"""Loads workflow files into a checked document, and reports every problem at once.

The trip: YAML (`yaml_source`), one document of all files (`merging`), presets, overrides, types (`assembly`),
rules (`rules`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any

from msgspec import Struct, field

from protocol.errors import Finding, SpecError
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.assembly import Assembly, assemble
from sflow_ctl.format.checking import MAX_FINDINGS
from sflow_ctl.format.expressions.templates import (
    check_syntax,
    check_template,
    has_expression,
    is_template,
)
from sflow_ctl.format.field_lookup import dotted
from sflow_ctl.format.merged.files import USES, WITH, Merged, merge
from sflow_ctl.format.merged.items import Item
from sflow_ctl.format.merged.overrides import apply_artifacts, apply_set, strip_missable
from sflow_ctl.format.merged.required_by import apply_required_by
from sflow_ctl.format.rules.document import check_rules
from sflow_ctl.format.rules.warnings import document_warnings
from sflow_ctl.format.written import plain
from sflow_ctl.format.yaml_source import PathKey, Source, dump, read_source
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.plan.words import Compat

_OF_PLACEHOLDERS = (
    *("E_ME", "L_ME", "T_ME", "GEME", "LLME", "CEME", "ITME", "YOUR_", "TODO", "TBD", "FIXME", "XXX"),
    *(
        "<fill",
        "<Fill",
        "<FILL",
        "<change",
        "<Change",
        "<CHANGE",
        "<your",
        "<Your",
        "<YOUR",
        "<todo",
        "<replace",
        "<REPLACE",
    ),
    *("<edit", "<EDIT", "<insert", "<INSERT"),
)
"""Parts of texts, one of which every placeholder has."""
_first_key = lazy_pattern(r"[.\[]")


class LoadedDocument(Struct):
    """A checked document, and the places of everything in it."""

    document: schema.Document
    warnings: tuple[Finding, ...]
    _items: dict[tuple[str, str], Item] = field(default_factory=dict)
    _text: str | None = None
    _merged: Merged | None = None

    def where(self, section: str, name: str, *path: PathKey) -> str:
        """Return `file:line:column  section.name.field` of an entry; section is "tasks", "variables", ..."""
        item = self._items.get((section, name))
        return f"{section}.{name}" if item is None else item.where(*path)

    def owner(self, where: str) -> tuple[str, str, str] | None:
        """Return section, name and field that a place is about, or None. The field is empty for an entry as a whole."""
        file, _, path = where.partition("  ")
        for (section, name), item in self._items.items():
            start = dotted(item.path)
            rest = path[len(start) :]
            files = (f"{layer.source.path}:" for layer in item.layers)
            is_here = file.startswith((*files, "--set ", "--artifact "))
            if is_here and path.startswith(start) and (not rest or rest[0] in ".["):
                return section, name, _first_key.split(rest.lstrip("."), maxsplit=1)[0]
        return None

    def where_any(self, sections: Sequence[str], name: str) -> str | None:
        """Return the place of an entry in the first of the sections that has it; None where none has."""
        return next((self.where(one, name) for one in sections if (one, name) in self._items), None)

    def secret_where(self, name: str) -> str | None:
        """Return the place of a name in `secrets:`."""
        return None if self._merged is None else self._merged.secret_where(name)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """Facts about the files that only their plan shows."""
        return () if self._merged is None else tuple(self._merged.notes)

    @property
    def source_texts(self) -> list[str]:
        """The text of each file, in the order in which they were given."""
        return [] if self._merged is None else [source.text for source in self._merged.sources]

    @property
    def included_files(self) -> list[FilePath]:
        """The files that others include, each once."""
        included = () if self._merged is None else self._merged.included.values()
        return list(dict.fromkeys(source.path for source in included))

    @property
    def site_settings(self) -> dict[str, Any]:
        """The files' `settings:`, key by key."""
        return {} if self._merged is None else {key: value for key, (value, _) in self._merged.site.items()}

    def site_settings_where(self, path: Sequence[PathKey]) -> str | None:
        """Return `file:line:column` of `("settings", key, ...)`."""
        return None if self._merged is None else self._merged.site_where(path)

    def composed_yaml(self) -> str:
        """Return the document as one file: the original text of a single file without overrides."""
        if self._text is not None:
            return self._text
        return dump(self.composed_data())

    def recorded_yaml(self) -> str:
        """Return the document as a run directory keeps it: without the values of its secrets."""
        return (
            dump(SECRETS.mask.data(self.composed_data()))
            if self.document.secrets or SECRETS.mask
            else self.composed_yaml()
        )

    def composed_data(self) -> dict[str, Any]:
        """Return the merged document as plain data in list form, overrides applied, expressions as written."""
        assert self._merged is not None
        return _composed(self._merged)


def load_documents(
    paths: Sequence[FilePath],
    overrides: Sequence[str] = (),
    artifact_overrides: Sequence[str] = (),
    missable: Sequence[str] = (),
    *,
    compat: Compat = "ours",
    refuses_ignored: bool = False,
) -> LoadedDocument:
    """Read, merge, override and check files; `refuses_ignored` is `--strict`. Raises: SpecError with all findings."""
    is_strict = compat != "ours"
    sources, findings = read_sources(paths)
    if len(sources) < len(paths):  # without the missing files the others would have further findings
        raise SpecError(findings[:MAX_FINDINGS])
    merged = merge(sources)
    merged.findings[:0] = findings
    if is_strict:  # sflow does not keep the text of numbers
        for item in (*merged.sections["variables"], *merged.workflow_variables):
            item.body = plain(item.body)
    if any(USES in item.body or WITH in item.body for item in merged.tasks):
        from sflow_ctl.format.presets import expand_presets  # only files that use presets pay for them

        expand_presets(merged.tasks, merged.findings)
    SECRETS.declare(merged.secrets)
    _learn_secrets(merged, overrides)
    _check_expressions(merged)
    for source in (*merged.sources, *merged.included.values()):
        source.free()
    apply_set(merged, overrides, is_strict)
    _learn_secrets(merged, ())
    apply_artifacts(merged, artifact_overrides)
    strip_missable(merged, missable)
    merged.notes += apply_required_by(merged.tasks)
    assembled = assemble(merged, refuses_ignored)
    items = assembled.items
    if assembled.document is not None:
        found = check_rules(
            assembled.document, lambda section, name, *path: items[section, name].where(*path)
        )
        merged.findings += [one for one in found if not _follows(one, assembled)]
    texts = [source.text for source in (*merged.sources, *merged.included.values())]
    if any(part in text for text in texts for part in _OF_PLACEHOLDERS):
        from sflow_ctl.format.rules.placeholders import placeholder_findings  # few files have such words

        merged.findings += placeholder_findings(merged)
    if merged.blocks and merged.findings:
        merged.findings[:] = _as_written(merged, merged.findings)
    if merged.findings:
        raise _document_error(merged, assembled)
    assert assembled.document is not None
    merged.warnings += document_warnings(
        assembled.document,
        lambda section, name, *path: items[section, name].where(*path),
        merged.secret_where,
    )
    if merged.blocks:
        merged.warnings[:] = _as_written(merged, merged.warnings)
    is_as_written = len(paths) == 1 and not (overrides or artifact_overrides or missable or merged.included)
    text = merged.sources[0].text if is_as_written else None
    return LoadedDocument(assembled.document, tuple(merged.warnings), items, text, merged)


def _as_written(merged: Merged, findings: Sequence[Finding]) -> list[Finding]:
    """Return findings in which tasks of blocks have the names that the file gives them."""
    from sflow_ctl.format.merged.blocks import findings_as_written  # few files have blocks

    return findings_as_written(findings, [one.name for one in merged.blocks])


class DocumentError(SpecError):
    """Everything that is wrong with a document before it is planned."""

    rest: LoadedDocument | None = None
    """The document without the values of wrong types, to find out what else is wrong; None where too little is left."""


def _document_error(merged: Merged, assembled: Assembly) -> DocumentError:
    error = DocumentError(merged.findings[:MAX_FINDINGS])
    document = assembled.document
    if document is not None and not assembled.broken and document.workflow.tasks:
        error.rest = LoadedDocument(document, (), assembled.items, None, merged)
    return error


def _follows(finding: Finding, assembled: Assembly) -> bool:
    """Return True for a finding that only follows from others: it names a broken entry, or is about an incomplete part."""
    if any(f'"{name}"' in finding.what for name in assembled.broken):
        return True
    field = (finding.where or "").rpartition("  ")[2]
    parts = map(dotted, assembled.incomplete)
    return any(field == part or field.startswith((f"{part}.", f"{part}[")) for part in parts)


def _learn_secrets(merged: Merged, overrides: Sequence[str]) -> None:
    """Tell the values of secrets as far as the files and `--set` have them."""
    if not SECRETS.has_names:
        return
    for override in overrides:
        overridden, _, given = override.partition("=")
        SECRETS.learn(overridden, given)
    tasks = [one for task in merged.tasks for one in _variables_of(task.body.get("variables"))]
    levels = [(item.name, item.body) for item in (*merged.sections["variables"], *merged.workflow_variables)]
    for name, body in (*levels, *tasks):
        values = (body.get("value"), body.get("domain")) if isinstance(body, dict) else (body,)
        for value in values:
            SECRETS.learn(name, value)


def _variables_of(data: Any) -> list[tuple[str, Any]]:
    """Return name and body of the variables of a task, in list or mapping form, checked or not."""
    if isinstance(data, dict):
        return [(str(name), body) for name, body in data.items()]
    bodies = data if isinstance(data, list) else []
    return [(str(body["name"]), body) for body in bodies if isinstance(body, dict) and "name" in body]


def read_sources(paths: Sequence[FilePath]) -> tuple[list[Source], list[Finding]]:
    """Read all files. Files that cannot be read at all are missing from the result."""
    sources, findings = [], []
    for path in paths:
        source, problems = read_source(path)
        findings += problems
        if source is not None:
            sources.append(source)
    return sources, findings


def _check_expressions(merged: Merged) -> None:
    included = {source.path: source for source in merged.included.values()}
    for source in (*merged.sources, *included.values()):
        for path, text in _texts(source.data, ()):
            is_content = len(path) >= 2 and path[0] == "artifacts" and path[-1] == "content"
            is_content = is_content or (path[:2] == ("workflow", "tasks") and "files" in path[3:4])
            try:
                if is_content:
                    check_template(text)
                else:
                    check_syntax(text)
            except ExpressionError as error:
                place = f"{source.where(path)}  {dotted(path)}"
                hint = error.hint or "correct the text between ${{ and }}"
                merged.findings.append(Finding("expression-syntax", _with_phrase(error.text), place, hint))


def _with_phrase(text: str) -> str:
    phrase = "expression syntax validation failed"
    return text if phrase in text else f"{phrase}: {text}"


def _texts(data: Any, path: tuple[PathKey, ...]) -> Iterator[tuple[tuple[PathKey, ...], str]]:
    if isinstance(data, str):
        if has_expression(data) or (path[3:4] == ("files",) and is_template(data)):
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
    if merged.secrets:
        composed["secrets"] = merged.secrets
    if merged.sweep is not None:
        composed["sweep"] = merged.sweep.body
    for section, items in merged.sections.items():
        if items:
            composed[section] = [_named_first(item) for item in items]
    workflow: dict[str, Any] = {"name": merged.workflow_name}
    if merged.workflow is not None:
        workflow |= {key: value for key, value in merged.workflow.body.items() if key != "name"}
    if merged.workflow_variables:
        workflow["variables"] = [_named_first(item) for item in merged.workflow_variables]
    if merged.blocks:
        workflow["blocks"] = list(merged.written_blocks.values())
    of_blocks = tuple(f"{block.name}~" for block in merged.blocks)
    workflow["tasks"] = [_named_first(item) for item in merged.tasks if not item.name.startswith(of_blocks)]
    return {**composed, "workflow": workflow}


def _named_first(item: Item) -> dict[str, Any]:
    return {"name": item.name, **{key: value for key, value in item.body.items() if key != "name"}}

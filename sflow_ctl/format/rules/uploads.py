"""Rules for storage targets, uploads, and results of tasks."""

import re
from collections.abc import Callable, Iterator

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.expressions.templates import has_expression
from sflow_ctl.format.rules.names import unsafe_path

Where = Callable[..., str]
_GLOB = lazy_pattern(r"[*?\[]")
_AGGREGATES = (
    *("first", "last", "list", "count", "min", "max", "avg", "sum"),
    *("mean", "average", "median", "std", "stdev"),
)
_PERCENTILE = lazy_pattern(r"p\d+(?:\.\d+)?")


def storage_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check that targets have the fields of their type, and the workflow's own upload."""
    for storage in document.storage:
        yield from _fields_findings(storage, where)
    upload = document.workflow.upload_all
    if upload is not None:
        place = where("workflow", "upload_all", "target")
        yield from _target_finding(document, upload.target, "upload_all", place)


_OF_BUCKETS = ("bucket", "region", "endpoint_url", "storage_class", "addressing_style")


def _fields_findings(storage: schema.Storage, where: Where) -> Iterator[Finding]:
    needed = schema.STORAGE_NEEDS[storage.type]
    if getattr(storage, needed) is None:
        what = f'storage "{storage.name}" of type {storage.type} has no {needed}'
        yield Finding("missing-key", what, where("storage", storage.name), f"add {needed}: ...")
    own = (*_OF_BUCKETS,) if storage.type == "s3" else (needed,)
    for name in (*_OF_BUCKETS, "path", "uri"):
        if name in own:
            continue
        if getattr(storage, name) is not None:
            what = f'storage "{storage.name}" is of type {storage.type}, which has no {name}'
            yield Finding("unknown-key", what, where("storage", storage.name, name), f"drop {name}")


def upload_findings(document: schema.Document, task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check that the uploads of a task have targets that exist, and keys that are always the same."""
    for index, upload in enumerate(task.uploads):
        place = ("tasks", task.name, "uploads", index)
        subject = f'an upload of task "{task.name}"'
        yield from _target_finding(document, upload.target, subject, where(*place, "target"))
        if not upload.source:
            yield Finding("wrong-value", f"{subject} has an empty from", where(*place, "from"), "name a file")
        is_glob = not has_expression(upload.source) and _GLOB.search(upload.source) is not None
        if is_glob and upload.to is not None and not upload.to.endswith("/"):
            what = f'{subject} has a pattern, so its "to" must end with \'/\': "{upload.to}"'
            yield Finding("wrong-value", what, where(*place, "to"), f"write {upload.to}/")
        if upload.to is not None and not has_expression(upload.to) and ".." in upload.to.split("/"):
            what = f'{subject} leaves the prefix of its target: "{upload.to}"'
            yield Finding("unsafe-path", what, where(*place, "to"), "write a key without ..")


def _target_finding(document: schema.Document, target: str, subject: str, place: str) -> Iterator[Finding]:
    known = [storage.name for storage in document.storage]
    if target not in known:
        what = f'{subject} references unknown storage target "{target}"'
        yield Finding("unknown-storage", what, place, guess_hint(target, known, "define it under storage:"))


def result_findings(task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check that a result has one source, distinct names and valid patterns."""
    result = task.result
    if result is None:
        return
    place = ("tasks", task.name, "result")
    if (result.patterns is None) == (result.file is None):
        both = "both patterns and file" if result.file is not None else "neither patterns nor file"
        what = f'the result of task "{task.name}" has {both}'
        yield Finding(
            "missing-key", what, where(*place), "e.g. {rate: 'rate: ([0-9.]+)'} or {file: metrics.json}"
        )
    if result.file is not None and not has_expression(result.file):
        problem = unsafe_path(result.file)
        if problem is None and not result.file.endswith(".json"):
            problem = "does not end in .json"
        if problem is not None:
            what = f'the file "{result.file}" of the result of task "{task.name}" {problem}'
            yield Finding("unsafe-path", what, where(*place, "file"), "a JSON file in the task's directory")
    seen: set[str] = set()
    for index, pattern in enumerate(result.patterns or ()):
        path = (*place, "patterns", index)
        if pattern.name in seen:
            what = f'the result of task "{task.name}" has two values called "{pattern.name}"'
            yield Finding("duplicate-key", what, where(*path, "name"), "rename one of them")
        seen.add(pattern.name)
        yield from _pattern_findings(task, pattern, where, path)


def _pattern_findings(
    task: schema.Task, pattern: schema.ResultPattern, where: Where, path: tuple[str | int, ...]
) -> Iterator[Finding]:
    how = pattern.aggregate
    if how not in _AGGREGATES and not has_expression(how) and not _PERCENTILE.fullmatch(how):
        what = f'"{how}" is not one of {", ".join(_AGGREGATES)}'
        hint = guess_hint(how, _AGGREGATES, "or a percentile such as p99")
        yield Finding("wrong-value", what, where(*path, "aggregate"), hint)
    if has_expression(pattern.regex):
        return
    what = f'"{pattern.regex}" of the result of task "{task.name}" '
    try:
        compiled = re.compile(pattern.regex)
    except re.error as error:
        yield Finding("wrong-pattern", f"{what}is not a regular expression: {error}", where(*path, "regex"))
        return
    group = pattern.group
    if isinstance(group, int) and not 0 <= group <= compiled.groups:
        yield Finding("wrong-pattern", f"{what}has no group {group}", where(*path, "group"))
    elif isinstance(group, str) and group not in compiled.groupindex:
        yield Finding("wrong-pattern", f'{what}has no group "{group}"', where(*path, "group"))

"""Warnings about documents that are valid but probably do not mean what was intended. Called by the loader after the rules."""

import re
from collections.abc import Callable, Iterator

from protocol.errors import Finding
from protocol.ids import ProbeKind
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.checking import nearest
from sflow_ctl.format.expressions.templates import has_expression, is_template

_REGEX = lazy_pattern(r"[\\^$*+?|(){}\[\]]")
_MARK = "re:"
_IN_SHELL = lazy_pattern(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*[^{}]*\})")
PROBE_KINDS: tuple[ProbeKind, ...] = ("readiness", "failure")
_LOOP = r"\{%[-+]?\s*for\s+(\w+)"
_BARE_BRACES = r"(?<!\$)\{\{\s*(\w+)[^}]*\}\}"


def document_warnings(
    document: schema.Document, where: Callable[..., str], secret_where: Callable[[str], str | None]
) -> list[Finding]:
    """Return warnings about a document without errors."""
    return [
        *_patterns(document, where),
        *_files(document, where),
        *_secrets(document, secret_where),
        *_results(document, where),
        *_checkpoints(document, where),
        *_environments(document, where),
    ]


def _environments(document: schema.Document, where: Callable[..., str]) -> Iterator[Finding]:
    """Find values of environments that look as if a shell were to expand them."""
    own = ((("tasks", task.name, "environment"), task.environment) for task in document.workflow.tasks)
    named = ((("environments", one.name), one) for one in document.environments)
    for path, steps in (*named, *own):
        if not isinstance(steps, schema.EnvironmentSteps):
            continue
        for name, value in steps.env.items():
            if isinstance(value, str) and (found := _IN_SHELL.search(value)) is not None:
                what = f'{found[0]} in the variable "{name}" of an environment stays as it is'
                hint = f"a shell expands it in `before`: 'export {name}=\"{value}\"'"
                yield Finding("literal-dollar", what, where(*path, "env", name), hint)


def _results(document: schema.Document, where: Callable[..., str]) -> Iterator[Finding]:
    """Find files that are read as patterns, because other names are beside them."""
    for task in document.workflow.tasks:
        for pattern in task.result.patterns or () if task.result is not None else ():
            if pattern.name == "file" and pattern.regex.endswith(".json"):
                what = f'task "{task.name}": "{pattern.regex}" is a pattern for a value called "file" in this result'
                hint = "a result from a file has no other names; a value called file may have another name"
                yield Finding("file-as-pattern", what, where("tasks", task.name, "result"), hint)


def _checkpoints(document: schema.Document, where: Callable[..., str]) -> Iterator[Finding]:
    if any(task.checkpoint for task in document.workflow.tasks):
        from sflow_ctl.format.rules.handover.checkpoints import unused_arguments  # most documents have none

        yield from unused_arguments(document, where)
    if any(task.inputs for task in document.workflow.tasks):
        from sflow_ctl.format.rules.handover.inputs import unused_input_arguments  # most documents have none

        yield from unused_input_arguments(document, where)


def _files(document: schema.Document, where: Callable[..., str]) -> Iterator[Finding]:
    """Find `{{ x }}` in templates whose loop gives `x`: without the dollar sign it stays as it is."""
    for task in document.workflow.tasks:
        for path, file in task.files.items():
            content = file if isinstance(file, str) else ""
            if "{%" not in content or not is_template(content):
                continue
            names = set(re.findall(_LOOP, content))
            for found in re.finditer(_BARE_BRACES, content):
                if found[1] in names:
                    what = f'task "{task.name}": {found[0]} in the file {path} stays as it is'
                    yield Finding(
                        "bare-braces", what, where("tasks", task.name, "files", path), f"write ${found[0]}"
                    )
                    break


def _patterns(document: schema.Document, where: Callable[..., str]) -> Iterator[Finding]:
    """Find regular expressions that are searched as plain text."""
    for task in document.workflow.tasks:
        for kind in PROBE_KINDS:
            probes = task.probes_of(kind)
            conditions = [one for probe in probes for one in (probe, *(probe.all or ()), *(probe.any or ()))]
            for condition in conditions:
                pattern = condition.log_watch.regex_pattern if condition.log_watch is not None else None
                if pattern is None or pattern.startswith(_MARK) or has_expression(pattern):
                    continue
                if _REGEX.search(pattern):
                    what = f'task "{task.name}": regex_pattern "{pattern}" is searched as plain text'
                    hint = f'for a regular expression write "{_MARK}{pattern}"'
                    yield Finding("regex-as-text", what, where("tasks", task.name, "probes", kind), hint)


def _secrets(document: schema.Document, where: Callable[[str], str | None]) -> Iterator[Finding]:
    """Find secrets that are probably misspelled variables: a name may also be one of the caller's environment."""
    variables = [*document.variables, *document.workflow.variables]
    variables += [variable for task in document.workflow.tasks for variable in task.variables]
    known = sorted({variable.name for variable in variables})
    for name in document.secrets:
        guess = None if name in known else nearest(name, known)
        if guess is not None:
            what = f'secrets: "{name}" is not a variable of this file'
            yield Finding("unknown-secret", what, where(name), f'did you mean "{guess}"?')

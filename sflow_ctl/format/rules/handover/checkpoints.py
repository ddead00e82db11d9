"""Rules for checkpoints of tasks: paths that stay in the task's directory, and words that mean something."""

import re
from collections.abc import Callable, Iterator

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import has_expression

Where = Callable[..., str]
_VARIABLE = lazy_pattern(r"[A-Za-z_]\w*", re.ASCII)
_IN_MARKER = lazy_pattern(r"\{([^}]*)\}")
_ARGS = lazy_pattern(r"\$\{\{[^}]*\bcheckpoint\b")
_KNOWN_IN_MARKER = ("path", "dir", "name")


def checkpoint_findings(task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check the checkpoints of a task."""
    one = task.checkpoint
    if one is None:
        return
    place = ("tasks", task.name, "checkpoint")
    yield from _path_findings(task, one, where, place)
    if one.done_marker is not None and not has_expression(one.done_marker):
        unknown = [name for name in _IN_MARKER.findall(one.done_marker) if name not in _KNOWN_IN_MARKER]
        if unknown or not _IN_MARKER.search(one.done_marker):
            problem = f"has {{{unknown[0]}}}" if unknown else "is the same for all checkpoints"
            what = f'done_marker "{one.done_marker}" of task "{task.name}" {problem}'
            hint = 'use {path}, {dir} or {name}, for example "{path}.done"'
            yield Finding("wrong-value", what, where(*place, "done_marker"), hint)
    if one.step_regex is not None and not has_expression(one.step_regex):
        step_problem = step_regex_problem(one.step_regex)
        if step_problem is not None:
            what = f'step_regex "{one.step_regex}" of task "{task.name}" {step_problem}'
            hint = r'put the digits in a group: "model-(\d+)"'
            yield Finding("wrong-pattern", what, where(*place, "step_regex"), hint)
    yield from _injection_findings(task, one, where, place)


def step_regex_problem(step_regex: str) -> str | None:
    """Return why an expression cannot find steps, as the end of a sentence; None if it can."""
    try:
        compiled = re.compile(step_regex)
    except re.error as error:
        return f"is not a regular expression: {error}"
    return None if compiled.groups else "has no group for the digits"


def leading_out(path: str, *, may_be_here: bool = False) -> str | None:
    """Return why a path or pattern does not stay below a directory, as the end of a sentence; None if it does."""
    if path.startswith("/"):
        return "is absolute"
    if ".." in path.split("/"):
        return "leads out of it"
    if not path.strip("./") and not (may_be_here and path in (".", "./")):
        return "does not name anything in it"
    return None


def _path_findings(
    task: schema.Task, one: schema.Checkpoint, where: Where, place: tuple[str | int, ...]
) -> Iterator[Finding]:
    paths: list[tuple[str, tuple[str | int, ...], str]] = [(one.dir, ("dir",), "the task's directory")]
    paths += [(glob, ("globs", index), "`dir`") for index, glob in enumerate(one.globs or ())]
    if one.state_file is not None:
        paths.append((one.state_file, ("state_file",), "`dir`"))
    if one.select not in ("latest", "best"):
        paths.append((one.select, ("select",), "`dir`"))
    if one.done_marker is not None and one.done_marker.startswith("/"):
        paths.append((one.done_marker, ("done_marker",), "`dir`"))
    for path, keys, directory in paths:
        problem = None if has_expression(path) else leading_out(path, may_be_here=keys == ("dir",))
        if problem is not None:
            what = f'{keys[0]} "{path}" of the checkpoint of task "{task.name}" {problem}: it is relative to {directory}'
            hint = "files from elsewhere are a start, not checkpoints of the task: resume: {from: PATH}"
            yield Finding("unsafe-path", what, where(*place, *keys), hint)
    if one.globs == []:
        what = f'checkpoint of task "{task.name}" has no patterns'
        yield Finding("missing-key", what, where(*place, "globs"), 'e.g. globs: ["**/*.pt"]')


def _injection_findings(
    task: schema.Task, one: schema.Checkpoint, where: Where, place: tuple[str | int, ...]
) -> Iterator[Finding]:
    inject = schema.CheckpointInjection(env=one.inject) if isinstance(one.inject, str) else one.inject
    if not has_expression(inject.env):
        problem = None
        if not _VARIABLE.fullmatch(inject.env):
            problem = "cannot be the name of a variable"
        elif inject.env.startswith("SFLOW_"):
            problem = "is a reserved name"
        if problem is not None:
            what = f'"{inject.env}", in which task "{task.name}" gets its checkpoint, {problem}'
            yield Finding("unsafe-name", what, where(*place, "inject"), "e.g. RESUME_FROM_CHECKPOINT")


def unused_arguments(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Find options for the path of a checkpoint that no script uses: warnings."""
    for task in document.workflow.tasks:
        inject = None if task.checkpoint is None else task.checkpoint.inject
        if not isinstance(inject, schema.CheckpointInjection) or inject.arg is None:
            continue
        if _ARGS.search(repr(task)) is None:
            what = f'inject.arg of task "{task.name}" has no effect: nothing in it uses checkpoint.args'
            hint = f"write ${{{{ checkpoint.args }}}} in its script, where {inject.arg} belongs"
            yield Finding("unused-key", what, where("tasks", task.name, "checkpoint", "inject", "arg"), hint)

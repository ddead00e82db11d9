"""Rules for environments: references, exclusive fields, names of variables. Imported for files that have some."""

from collections.abc import Callable, Iterator

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint

Where = Callable[..., str]
NONE = "none"
"""What a task writes that needs no environment although the workflow has one."""
MODULE_COMMANDS = (
    "load",
    "unload",
    "purge",
    "use",
    "swap",
    "switch",
    "restore",
    "add",
    "rm",
    "try-load",
    "unuse",
)
"""Words of `module` with which an entry of `modules` may begin. Source: module(1), Environment Modules 5 and Lmod 8."""
_NAME = lazy_pattern(r"[A-Za-z_][A-Za-z0-9_]*")
_UNPRINTABLE = lazy_pattern(r"[\x00-\x1f\x7f\[\]]")


def is_variable_name(name: str) -> bool:
    """Return whether bash can export a variable of this name."""
    return _NAME.fullmatch(name) is not None


def environment_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check all environments, and that tasks and the workflow name some that exist."""
    known = {one.name: one for one in document.environments}
    for name, one in known.items():
        yield from _step_findings(one, f'environment "{name}"', ("environments", name), where)
        if name == NONE or _UNPRINTABLE.search(name):
            what = f'an environment cannot be called "{name}"'
            yield Finding("wrong-name", what, where("environments", name, "name"), "choose another name")
    if document.workflow.environment is not None:
        place = where("workflow", "environment")
        yield from _reference(document.workflow.environment, "the workflow", known, place)
    for task in document.workflow.tasks:
        path = ("tasks", task.name, "environment")
        if isinstance(task.environment, str):
            yield from _reference(task.environment, f'task "{task.name}"', known, where(*path))
        elif task.environment is not None:
            yield from _step_findings(task.environment, f'environment of task "{task.name}"', path, where)


def _reference(name: str, who: str, known: dict[str, schema.Environment], place: str) -> Iterator[Finding]:
    if name not in known and name != NONE:
        hint = guess_hint(name, sorted(known), "define it under environments:")
        yield Finding("unknown-environment", f'{who} references unknown environment "{name}"', place, hint)


def _step_findings(
    steps: schema.EnvironmentSteps, subject: str, path: tuple[str, ...], where: Where
) -> Iterator[Finding]:
    """Check the fields of one environment."""
    if steps.conda is not None and steps.venv is not None:
        what = f"{subject} has both conda and venv"
        yield Finding("conflicting-keys", what, where(*path, "venv"), "activate one of them")
    for field in ("modules", "source", "before"):
        for index, entry in enumerate(getattr(steps, field)):
            text = entry if isinstance(entry, str) else entry.path
            problem = "is empty" if not text.strip() else "has a character NUL" if "\0" in text else ""
            if field == "modules" and text.split()[:1] and text.split()[0].startswith("-"):
                problem = "begins with a dash and would be read as an option"
            if problem:
                what = f"an entry of {field} of {subject} {problem}"
                yield Finding("wrong-value", what, where(*path, field, index), "correct or drop it")
    for name in steps.env:
        if not is_variable_name(name) or name.startswith("SFLOW_"):
            problem = "is reserved" if is_variable_name(name) else "is not a name that a shell can export"
            what = f'the variable "{name}" of {subject} {problem}'
            yield Finding("wrong-variable-name", what, where(*path, "env", name), "rename it")

"""Checks the patterns and paths of `outputs` before anything starts: a wrong one would be noticed when a run's results are gone.

Pure. `runtime.run.planning` calls it for plans with outputs; imports the `parse` library.
"""

from collections.abc import Callable, Iterator

from protocol.errors import Finding
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.results import PlannedOutput
from sflow_ctl.results.documents import json_path
from sflow_ctl.results.patterns import PatternError, compile_pattern

Where = Callable[..., str]
_FIELD = 'name its values in braces, as in "rate = {rate:f} tok/s"'


def wrong_outputs(plan: Plan, where: Where) -> list[Finding]:
    """Return a finding for each pattern or path that cannot find a value; `where` takes section, name and path."""
    bases = {task.base: task for task in plan.tasks}
    return [
        Finding(
            "wrong-pattern", f'task "{base}": {what}', where("tasks", base, "outputs", index, field), hint
        )
        for base, task in bases.items()
        for index, output in enumerate(task.outputs)
        for field, what, hint in _problems(output)
    ]


def _problems(output: PlannedOutput) -> Iterator[tuple[str, str, str]]:
    """Yield (field, what, hint)."""
    try:
        if output.pattern is not None:
            if not compile_pattern(output.pattern).named_fields:
                yield (
                    "pattern",
                    f'the pattern "{output.pattern}" has no named field, so it finds no value',
                    _FIELD,
                )
        elif output.json is not None:
            json_path(output.json)
    except PatternError as error:
        if output.pattern is not None:
            yield (
                "pattern",
                str(error),
                "a field has a name and a type: {rate:f}, {count:d}, {word:w}; {{ is a brace",
            )
        else:
            yield "json", str(error), 'e.g. stats.rate, runs[*].rate, or ["a.b"]'

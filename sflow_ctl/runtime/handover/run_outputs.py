"""The outputs of a whole run, `workflow.outputs`: resolved when its tasks have ended, written to a file, read by commands.

Called by `runtime/run/ending.py` for the few runs that have some.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from protocol.typed_values import as_json
from sflow_ctl.core.commands import FinishRun
from sflow_ctl.core.states import FirstCause, Outcome, Reason
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.results import PlannedInput
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular

if TYPE_CHECKING:
    from sflow_ctl.plan.deferred import DeferredValues
    from sflow_ctl.runtime.record.directory import RunDirectory


class RunOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a run, in `outputs.json`."""

    name: str
    value: Any = None
    source: str = ""
    """Where the value is from, for people: "train.outputs.checkpoint", "its expression", "default"."""
    is_default: bool = False
    problem: str = ""
    """Why there is no value, as a sentence; empty if there is one, or none is needed."""
    is_required: bool = True
    """The run has failed without it."""


class RunOutputs(msgspec.Struct, frozen=True, kw_only=True):
    """`outputs.json`."""

    schema: str = "sflow.run_outputs.v1"
    run_id: str
    outputs: tuple[RunOutput, ...]

    @property
    def values(self) -> dict[str, Any]:
        """Return the values by name; null for those without one."""
        return {one.name: one.value for one in self.outputs}


def resolve_outputs(planned: Sequence[PlannedInput], values: "DeferredValues") -> tuple[RunOutput, ...]:
    """Return the outputs of a run whose tasks have ended."""
    found = []
    for one in planned:
        try:
            given = values.resolved_input(one)
        except ExpressionError as error:
            problem = error.text.partition("; outputs of ")[0].partition("; no task has outputs")[0]
            problem = problem.replace(f'its input "{one.name}"', "it", 1)
            problem = problem.replace('unknown name "outputs" in', "a task that it uses has no outputs:")
            found.append(RunOutput(name=one.name, problem=problem, is_required=one.is_required))
            continue
        found.append(
            RunOutput(
                name=one.name,
                value=as_json(given.value),
                source=given.source,
                is_default=given.is_default,
                is_required=one.is_required,
            )
        )
    return tuple(found)


def with_outputs(finish: FinishRun, outputs: Sequence[RunOutput]) -> FinishRun:
    """Fail a run that has completed without an output that it needs."""
    missing = next((one for one in outputs if one.problem and one.is_required), None)
    if missing is None or finish.outcome is not Outcome.COMPLETED:
        return finish
    text = f'output "{missing.name}" of the workflow is missing: {missing.problem}'
    reason = Reason("output_missing", text, hint="give it a default, or required: false")
    return FinishRun(
        outcome=Outcome.FAILED, cause=FirstCause(text=text, reason=reason), survivors=finish.survivors
    )


def write_outputs(directory: "RunDirectory", run_id: str, outputs: tuple[RunOutput, ...]) -> None:
    """Write `outputs.json`. Raises: OSError."""
    content = msgspec.json.format(msgspec.json.encode(RunOutputs(run_id=run_id, outputs=outputs)), indent=2)
    directory.write(layout.OUTPUTS, content + b"\n")


def read_outputs(directory: Path) -> RunOutputs | None:
    """Return the outputs of a run that has ended; None where there are none."""
    try:
        return msgspec.json.decode(read_regular(directory / layout.OUTPUTS), type=RunOutputs)
    except (OSError, *UNREADABLE):
        return None

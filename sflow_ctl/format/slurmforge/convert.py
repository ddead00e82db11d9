"""Converts a file of slurmforge: recognises its generation, and writes the workflow with what was left as comments."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from protocol.errors import Finding, SpecError
from sflow_ctl.format.slurmforge.given import Given, Left
from sflow_ctl.format.slurmforge.job import TO_FILL_IN
from sflow_ctl.format.slurmforge.one import read_experiment as read_one
from sflow_ctl.format.slurmforge.registry import is_registry
from sflow_ctl.format.slurmforge.zero import ReadText
from sflow_ctl.format.slurmforge.zero import read_experiment as read_zero
from sflow_ctl.format.yaml_source import Source, dump

_OF_ONE = ("stages", "runs", "experiment", "environments", "runtime", "artifact_store", "notifications")
_OF_ZERO = (
    "run",
    "model",
    "cluster",
    "experiment_name",
    "launcher",
    "artifacts",
    "eval",
    "sweep",
    "model_registry",
    "notify",
)


class Converted(NamedTuple):
    """The new file."""

    text: str
    generation: str
    """`0.x` or `1.x`."""
    left: Sequence[Left]
    """Keys that have no counterpart, in the order of the file."""
    to_fill_in: bool
    """The old file left values open that the new one needs."""


def convert(source: Source, read: ReadText) -> Converted:
    """Return a file of slurmforge as a workflow; `read` reads scripts of its project. Raises: SpecError."""
    generation = _generation(source)
    given = Given(source)
    experiment = read_zero(given, read) if generation == "0.x" else read_one(given)
    given.leave_the_rest()
    document = experiment.document()
    body = dump(document)
    open_ = TO_FILL_IN in body
    return Converted(
        f"{_head(source.path, generation, given.left, open_)}{body}", generation, given.left, open_
    )


def _generation(source: Source) -> str:
    """Return the generation by the keys of the file. Raises: SpecError."""
    data: Any = source.data
    keys = list(data) if isinstance(data, dict) else []
    one, zero = ([key for key in keys if key in known] for known in (_OF_ONE, _OF_ZERO))
    if "stages" in keys or len(one) > len(zero):
        return "1.x"
    if zero:
        return "0.x"
    what = (
        "not an experiment of slurmforge: it has neither `stages` (1.x) nor `run`, `model` or `cluster` (0.x)"
    )
    hint = "give the file that you pass to sforge with --config"
    if is_registry(data):
        what, hint = (
            "a registry of models, not an experiment",
            "give the experiment that names it in model_registry.registry_file",
        )
    elif "workflow" in keys:
        what, hint = "a workflow file already, not an experiment of slurmforge", "run it: sflow-ctl run FILE"
    raise SpecError([Finding("not-slurmforge", what, str(source.path), hint)])


def _head(path: Path, generation: str, left: Sequence[Left], has_open: bool) -> str:
    lines = [
        f"# From {path.name} (slurmforge {generation}), by sflow-ctl init --from-slurmforge. Run it in the same directory."
    ]
    if has_open:
        lines.append(f"# Fill in what says {TO_FILL_IN}: sflow-ctl validate names each such field.")
    if left:
        lines.append("# Not as it was; the line in the old file, its key and value, and the reason:")
        lines += [f"#   {Path(one.line).name}  {one.text}" for one in left]
    return "\n".join(lines) + "\n"

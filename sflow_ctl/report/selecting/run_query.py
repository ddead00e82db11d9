"""Which runs a `--query` means. Called by `ps`."""

from collections.abc import Sequence

from sflow_ctl.core.states import Outcome
from sflow_ctl.report.looking.run_list import LIVE_STATES, RunEntry
from sflow_ctl.report.selecting.query import parsed_query, refuse_unknown

LIVE = "live"
"""Beside the states: its processes may exist."""
KEYS = {
    "state": f"a state of the list, or {LIVE}",
    "workflow": "the name of the workflow",
    "run": "the id",
    "host": "the host of its controller",
    "job": "the number of its Slurm job",
    "label": "label.NAME=VALUE, or label=NAME for any value",
}
_STATES = (*LIVE_STATES, LIVE, "died", "unreadable", *(one.value for one in Outcome))


def fitting_runs(texts: Sequence[str], runs: Sequence[RunEntry]) -> list[RunEntry]:
    """Return the runs that queries mean. Raises: UsageError for unknown keys, states, and values that no run has."""
    query = parsed_query(texts, KEYS)
    refuse_unknown(query, lambda key: _STATES if key == "state" else _all(key, runs))
    return [run for run in runs if query.fits(lambda key: _values(key, run))]  # noqa: B023


def _all(key: str, runs: Sequence[RunEntry]) -> set[str]:
    return {value for run in runs for value in _values(key, run)}


def _values(key: str, run: RunEntry) -> tuple[str, ...]:
    if key.startswith("label."):
        name = key.removeprefix("label.")
        return (run.labels[name],) if name in run.labels else ()
    match key:
        case "label":
            return tuple(run.labels)
        case "state":
            return (run.state, LIVE) if run.is_live else (run.state,)
        case "workflow":
            value = run.workflow
        case "run":
            value = run.run_id
        case "host":
            value = run.host
        case _:
            value = run.job_id
    return (value,) if value else ()

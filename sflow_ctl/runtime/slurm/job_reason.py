"""Asks Slurm why it ends a job: its time, a node, a preemption, or a person. Called by `run/ending.py` at a run's end."""

import os
import re
from collections.abc import Mapping, Sequence

from sflow_ctl.core.states import Reason
from sflow_ctl.planner.numbers import NumberError, as_seconds
from sflow_ctl.runtime.slurm.allocation import ask, own_name

WHY_WITHIN_S = 3.0
"""The limit for asking Slurm why the job ends.

There is little time between SIGTERM and SIGKILL, and everything else is done by then.
"""
_ENDS: tuple[tuple[str, str, str], ...] = (
    ("preempted", "PREEMPTED", "the job was preempted"),
    ("preempted", "REQUEUED", "the job was requeued"),
    ("preempted", "PENDING", "the job was preempted or requeued, and will start again"),
    ("time_limit", "TIMEOUT", "the job has reached its time limit"),
    ("node_lost", "NODE_FAIL", "a node of the job failed"),
    ("cancelled", "CANCELLED", "the job was cancelled"),
)


def why_it_ends(job_id: str, nodes: Sequence[str] = ()) -> Reason | None:
    """Return Slurm's reason for ending the job, as a reason of the run; None when Slurm gives none.

    `nodes` are the job's: a job that is requeued or has lost a node ends because of those that are down.

    Source: scontrol(1), JobState and Reason, as seen between SIGTERM and SIGKILL.
    """
    said = ask("scontrol", "show", "job", "--oneliner", own_name(job_id, os.environ), within_s=WHY_WITHIN_S)
    fields = dict(re.findall(r"(\w+)=(\S*)", said))
    state = fields.get("JobState", "")
    if fields.get("PreemptTime", "None") not in ("None", "Unknown", ""):
        return Reason("preempted", "Slurm: the job was preempted")
    # 22.05 does not show the reason behind the first
    reason = _why_completing(fields) if state.startswith("COMPLETING") else _known_end(fields)
    if reason is None or not (reason.word == "node_lost" or _is_requeued(fields)):
        return reason
    down = _down_nodes(nodes)
    if not down:
        return reason
    which = f"node {down[0]}" if len(down) == 1 else f"nodes {', '.join(down)}"
    requeued = "; the job was requeued, and will start again" if _is_requeued(fields) else ""
    return Reason("node_lost", f"Slurm: {which} of the job failed{requeued}")


def _known_end(fields: Mapping[str, str]) -> Reason | None:
    for word, known, text in _ENDS:
        if fields.get("JobState", "").startswith(known) or fields.get("Reason", "").startswith(known):
            return Reason(word, f"Slurm: {text}")
    return None


def _why_completing(fields: Mapping[str, str]) -> Reason:
    if fields.get("Reason", "").startswith(("NodeDown", "NODE_FAIL")):
        return Reason("node_lost", "Slurm: a node of the job failed")
    if _is_requeued(fields):
        return Reason("preempted", "Slurm: the job was requeued, and will start again")
    try:
        is_over = as_seconds(fields["RunTime"]) >= as_seconds(fields["TimeLimit"])
    except (KeyError, NumberError):
        is_over = False
    if is_over:
        return Reason("time_limit", "Slurm: the job has reached its time limit")
    return Reason("cancelled", "Slurm: the job was cancelled or preempted")


def _is_requeued(fields: Mapping[str, str]) -> bool:
    """Return whether Slurm counts one more start than this one."""
    restarts = fields.get("Restarts", "")
    return restarts.isdecimal() and int(restarts) > int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def _down_nodes(nodes: Sequence[str]) -> list[str]:
    """Return those of these nodes that Slurm calls down or unreachable. Source: sinfo(1), node states."""
    if not nodes:
        return []
    query = ("sinfo", "--noheader", "--Node", f"--nodes={','.join(nodes)}", "--format=%N|%T")
    states = dict(
        line.strip().split("|") for line in ask(*query, within_s=WHY_WITHIN_S).splitlines() if "|" in line
    )
    return [
        node for node in nodes if (state := states.get(node, "")).startswith("down") or state.endswith("*")
    ]

"""The plans that earlier controllers of a run carried out, as if they had been made where its directories are today.

A result counts for the plan that was in force when it came about, whatever was planned later and not carried out.
Called by `resume.py`.
"""

import re
from pathlib import Path

import msgspec

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.runtime.record.plan_file import decode_plan, encode_plan

_NAME = lazy_pattern(r"^plan\.(\d+)\.json$")


class PriorPlans:
    """Reads a plan when it is asked for, once."""

    def __init__(self, directory: Path, newest: Plan, workspace: Path) -> None:
        """`workspace` is the one of today."""
        self._directory = directory
        self._workspace = workspace
        self._newest = moved(newest, directory, workspace)
        self._kept = _kept_plans(directory)
        self._read: dict[int, Plan | None] = {}

    def of(self, incarnation: int) -> Plan | None:
        """Return the plan of an earlier controller; None if its file cannot be read."""
        number = next((one for one in self._kept if one >= incarnation), None)
        if number is None:
            return self._newest
        if number not in self._read:
            path = self._directory / layout.earlier_plan(number)
            try:
                plan = decode_plan(read_regular(path))
            except (OSError, *UNREADABLE):
                self._read[number] = None
            else:
                self._read[number] = moved(plan, self._directory, self._workspace)
        return self._read[number]


def _kept_plans(directory: Path) -> list[int]:
    try:
        names = [path.name for path in (directory / layout.OURS).iterdir()]
    except OSError:
        return []
    return sorted(int(match[1]) for name in names if (match := _NAME.match(name)))


def moved(plan: Plan, directory: Path, workspace: Path) -> Plan:
    """Return a plan as if it had been made with the run directory, and a workspace that was moved, at these places."""
    env = plan.tasks[0].env if plan.tasks else {}
    old = env.get("SFLOW_WORKFLOW_OUTPUT_DIR", "")
    changes = [(old, str(directory)), (str(Path(old).parent), str(directory.parent))] if old else []
    old_workspace = env.get("SFLOW_WORKSPACE_DIR", "")
    if old_workspace and not Path(old_workspace).is_dir():
        changes.append((old_workspace, str(workspace)))
    changes = [(one, other) for one, other in changes if one != other]
    if not changes:
        return plan
    text = b"".join(encode_plan(plan)).decode()
    # All at once: one new place may be inside another old one.
    places = {_inner(one): _inner(other) for one, other in reversed(changes)}
    words = "|".join(map(re.escape, sorted(places, key=len, reverse=True)))
    text = re.sub(rf"(?<![\w.-])(?:{words})(?![\w.-])", lambda match: places[match[0]], text)
    run_id = '"SFLOW_RUN_ID":"%s"'
    text = text.replace(run_id % _inner(Path(old).name), run_id % _inner(directory.name))
    return decode_plan(text.encode())


def _inner(text: str) -> str:
    """Return a text as it stands inside a JSON string."""
    return msgspec.json.encode(text).decode()[1:-1]

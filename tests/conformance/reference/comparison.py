"""Compares our plan with that of a released sflow: nodes, GPUs, dependencies, probes, environment, scripts.

Names and addresses of nodes are replaced by their positions before texts are compared. Used by `test_reference.py`.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from protocol.errors import FleetError
from protocol.messages.checks import HttpCheck, LogCheck, TcpCheck
from sflow_ctl.format.loader import load_documents
from sflow_ctl.plan.graph import dependency_names
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.words import Compat
from sflow_ctl.planner.pipeline import build_plan
from tests.unit.planner import planning

_TYPES = {
    "TcpPortProbe": TcpCheck,
    "LogWatchProbe": LogCheck,
    "HttpGetProbe": HttpCheck,
    "HttpPostProbe": HttpCheck,
}


class Comparison:
    """What differs between two plans, and how much was compared."""

    def __init__(self) -> None:
        self.differences: list[str] = []
        self.compared = 0

    def check(self, what: str, theirs: object, ours: object) -> None:
        """Compare one fact."""
        self.compared += 1
        if theirs != ours:
            self.differences.append(f"{what}: {theirs!r} there, {ours!r} here")


def planned_here(argv: Sequence[str], workspace: Path, compat: Compat = "ours") -> Plan | FleetError:
    """Plan with the options of `sflow run`, or return the error."""
    files: list[str] = []
    overrides: list[str] = []
    artifacts: list[str] = []
    missable: list[str] = []
    lists: dict[str, list[str]] = {
        "-f": files, "--set": overrides, "--artifact": artifacts, "--missable-tasks": missable,
    }  # fmt: skip
    for option, value in zip(argv[::2], argv[1::2], strict=True):
        lists[option].append(value)
    output = workspace / "sflow_output"
    try:
        loaded = load_documents(list(map(Path, files)), overrides, artifacts, missable)
        name = loaded.document.workflow.name
        context = replace(
            planning.CONTEXT,
            workspace_dir=str(workspace),
            output_dir=str(output),
            run_directory=str(output / "_dry_run" / name),
            run_id=name,
            path_exists=os.path.exists,
            read_text=lambda path: Path(path).read_text(),
            given=frozenset({"account", "partition"}),
            allow_placeholder_nodes=True,
            may_lack_artifacts=True,
        )
        return build_plan(loaded, replace(context, compat=compat))
    except FleetError as error:
        return error


def compare(theirs: Mapping[str, Any], ours: Plan) -> Comparison:
    """Compare two plans task by task."""
    found = Comparison()
    tasks = {task.name: task for task in ours.tasks}
    found.check("tasks", sorted(theirs["tasks"]), sorted(tasks))
    members = ours.members()
    there = _Names({place: tuple(names) for place, names in theirs["nodes"].items()})
    here = _Names({f"{node.backend}[{node.backend_index}]": (node.name, node.address) for node in ours.nodes})
    for name, facts in theirs["tasks"].items():
        task = tasks.get(name)
        if task is not None:
            _compare_task(
                found, facts, task, ours, (there, here), sorted(set(dependency_names(task, members)))
            )
    return found


class _Names:
    """Replaces names and addresses of nodes by their positions."""

    def __init__(self, nodes: Mapping[str, tuple[str, str]]) -> None:
        words = {
            word: f"<{kind} of {place}>"
            for place, pair in nodes.items()
            for kind, word in zip(("node", "address"), pair, strict=True)
            if word
        }
        self._words: dict[str, str] = {}
        for word, text in words.items():
            self._words.setdefault(word, text)
        ordered = sorted(map(re.escape, self._words), key=len, reverse=True)
        self._pattern = re.compile(rf"(?<![\w.-])(?:{'|'.join(ordered)})(?![\w-]|\.\d)") if ordered else None

    def neutral(self, text: object) -> str:
        """Return a text without names."""
        return (
            str(text)
            if self._pattern is None
            else self._pattern.sub(lambda match: self._words[match[0]], str(text))
        )


def _compare_task(
    found: Comparison,
    facts: Mapping[str, Any],
    task: PlannedTask,
    plan: Plan,
    names: tuple[_Names, _Names],
    needs: list[str],
) -> None:
    there, here = names
    placement = task.placement
    found.check(f"{task.name} backend", facts["backend"], task.backend)
    found.check(f"{task.name} is placed", True, not placement.is_flexible)
    found.check(
        f"{task.name} nodes", facts["nodes"], [plan.nodes[node].backend_index for node in placement.nodes]
    )
    found.check(f"{task.name} gpus", facts["gpus"], ",".join(map(str, placement.gpus)) or None)
    found.check(f"{task.name} depends_on", facts["depends_on"], needs)
    found.check(
        f"{task.name} script", _lines(there.neutral(facts["script"])), _lines(here.neutral(task.script))
    )
    for variable, value in facts["env"].items():
        where = f"{task.name} ${variable}"
        found.check(where, there.neutral(value), here.neutral(task.environment.get(variable)))
    probes = sorted(_probe_there(probe, there) for probe in facts["probes"])
    ours = sorted(_probes_here(task, here))
    if task.is_replicated and task.replica_index > 0:  # there the first replica asks for all (6.3)
        asked = [one for one in ours if " HttpCheck " in one and one not in probes]
        ours = [one for one in ours if one not in asked]
    found.check(f"{task.name} probes", probes, ours)


def _lines(script: str) -> list[str]:
    """Return the lines that do something. A comment after a colon is lost there (the format, 1.1), and so are blank lines."""
    lines = (re.sub(r"\s+# .*$", "", line).rstrip() for line in script.splitlines())
    return [line for line in lines if line]


def _probe_there(probe: Mapping[str, Any], names: _Names) -> str:
    is_readiness = probe["kind"] == "readiness"
    threshold = probe["success_threshold" if is_readiness else "failure_threshold"]
    deadline = probe["timeout"] if is_readiness else None
    times = (probe["delay"], probe["interval"], probe["each_check_timeout"], threshold, deadline)
    kind = _TYPES[probe["type"]].__name__
    target = probe.get("url") or probe.get("port") or probe.get("match_count")
    return f"{probe['kind']} {kind} {names.neutral(target)} {' '.join(map(_number, times))}"


def _probes_here(task: PlannedTask, names: _Names) -> Iterator[str]:
    for probe in (part for whole in task.probes for part in whole.parts):
        for check in probe.checks:
            deadline = task.deadline_s if probe.kind == "readiness" else None
            times = (probe.delay_s, probe.interval_s, probe.timeout_s, probe.threshold, deadline)
            target: object = None
            if isinstance(check, HttpCheck):
                target = check.url
            elif isinstance(check, TcpCheck):
                target = check.port
            elif isinstance(check, LogCheck):
                target = check.pattern.count
            yield f"{probe.kind} {type(check).__name__} {names.neutral(target)} {' '.join(map(_number, times))}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"

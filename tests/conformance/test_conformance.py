"""The format, rule by rule: every file here is named after the chapter it comes from.

A file in `accepted` holds `#> expression` lines that must be true of its plan; one in `refused` begins with the
code of its only finding (`#! code`) and phrases of its message. `#@ set A=1`, `#@ artifact`, `#@ missable` and
`#@ with FILE` are options.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from protocol.errors import FleetError
from sflow_ctl.format.loader import load_documents
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.words import Compat
from sflow_ctl.planner.pipeline import build_plan
from sflow_ctl.planner.show.text import plan_text
from tests.unit.planner import planning

HERE = Path(__file__).parent
CONTEXT = replace(planning.CONTEXT, path_exists=lambda path: "exists" in path, allow_placeholder_nodes=True)


def files(half: str) -> list[str]:
    """Names of all rules of one half."""
    return sorted(path.stem for path in (HERE / half).glob("*.yaml"))


def lines(path: Path, mark: str) -> list[str]:
    """Return the comments of one kind in a file."""
    marked = (line for line in path.read_text().splitlines() if line.startswith(mark))
    return [line.removeprefix(mark) for line in marked]


def planned(path: Path) -> Plan:
    """The plan of a file with its options. Raises: SpecError, PlanError."""
    options: dict[str, list[str]] = {"set": [], "artifact": [], "missable": [], "with": [], "compat": []}
    for line in lines(path, "#@ "):
        kind, _, value = line.partition(" ")
        options[kind].append(value)
    paths = [path, *(path.parent / name for name in options["with"])]
    given = options["compat"]
    compat: Compat = "0.3.1" if given == ["strict"] else "0.2" if given == ["0.2"] else "ours"
    loaded = load_documents(paths, options["set"], options["artifact"], options["missable"], compat=compat)
    return build_plan(loaded, replace(CONTEXT, compat=compat))


def names_for(plan: Plan) -> dict[str, Any]:
    """Return the names that the expressions in a file may use."""
    tasks = {task.name: task for task in plan.tasks}
    env: Callable[[str, str], str] = lambda task, name: tasks[task].environment[name]  # noqa: E731
    script: Callable[[str], str] = lambda task: tasks[task].script  # noqa: E731

    def task(name: str) -> PlannedTask:
        return tasks[name]

    def where(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        placement = tasks[name].placement
        assert not placement.is_flexible
        return placement.nodes, placement.gpus

    warnings = "\n".join(one.line() for one in plan.warnings)
    return {
        "plan": plan,
        "names": list(tasks),
        "task": task,
        "env": env,
        "script": script,
        "where": where,
        "warnings": warnings,
        "shown": plan_text(plan),
    }


@pytest.mark.parametrize("rule", files("accepted"))
def test_accepted(rule: str) -> None:
    path = HERE / "accepted" / f"{rule}.yaml"
    plan = planned(path)
    expected = lines(path, "#> ")
    assert expected
    for expression in expected:
        assert eval(expression, names_for(plan)), f"{expression}\n{plan}"


@pytest.mark.parametrize("rule", files("refused"))
def test_refused(rule: str) -> None:
    path = HERE / "refused" / f"{rule}.yaml"
    code, *phrases = lines(path, "#! ")
    with pytest.raises(FleetError) as raised:
        planned(path)
    (finding,) = raised.value.findings
    assert finding.code == code, str(finding)
    assert raised.value.exit_status == 2
    assert finding.where, str(finding)
    for phrase in phrases:
        assert phrase in str(finding)

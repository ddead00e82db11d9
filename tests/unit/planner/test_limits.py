"""How scripts fail and how many tasks run at once: fields, settings, the command line."""

from pathlib import Path
from typing import Any

import pytest

from protocol.errors import SpecError
from sflow_ctl.plan.parts.needs import HostNeeds
from sflow_ctl.planner.placement.capacity import crowd_warning
from tests.unit.planner.planning import findings_of, plan_of

STRICT = "set -euo pipefail; "


def script(tmp_path: Path, task: str = "", more: str = "", **context: Any) -> str:
    text = f"{more}workflow: {{name: w, tasks: [{{name: t, script: [x]{task}}}]}}\n"
    return plan_of(tmp_path, text, **context).tasks[0].argv[-1]


@pytest.mark.parametrize(
    ("task", "setting", "expected"),
    [
        ("", False, "x"),
        ("", True, f"{STRICT}x"),
        (", strict: true", False, f"{STRICT}x"),
        (", strict: false", True, "x"),
        (", strict: false, fail_fast: true", True, "x"),
        (", fail_fast: true", False, "set -e; x"),
        (", fail_fast: false", True, "x"),
        (", operator: plain", True, f"{STRICT}x"),
        (", operator: {name: plain, strict: false}", True, "x"),
        (", operator: {name: plain, strict: false}, strict: true", False, f"{STRICT}x"),
        (", operator: code, strict: true", True, "x"),
    ],
)
def test_ux_11_scripts_are_strict_by_task_operator_or_setting(
    tmp_path: Path, task: str, setting: bool, expected: str
) -> None:
    operators = "operators: {plain: {type: bash}, code: {type: python}}\n"
    assert script(tmp_path, task, operators, is_strict=setting) == expected


@pytest.mark.parametrize(
    ("workflow", "option", "setting", "expected"),
    [
        ("", None, None, None),
        ("", None, 7, 7),
        ("max_running: 5, ", None, 7, 5),
        ("max_running: 5, ", 3, 7, 3),
        ("", 3, 7, 3),
    ],
)
def test_ux_14_the_number_of_tasks_at_once_has_a_field_and_a_setting(
    tmp_path: Path, workflow: str, option: int | None, setting: int | None, expected: int | None
) -> None:
    text = f"workflow: {{name: w, {workflow}tasks: [{{name: t, script: [x]}}]}}\n"
    plan = plan_of(tmp_path, text, max_running=option, usual_max_running=setting)
    assert plan.max_running == expected


def test_a_limit_that_services_use_up_is_found_before_the_run(tmp_path: Path) -> None:
    service = "kind: service, script: [x], probes: {readiness: {tcp_port: {port: 80}}}"
    text = f"workflow: {{name: w, max_running: 1, tasks: [{{name: a, {service}}}, {{name: b, {service}}}]}}\n"
    (finding,) = findings_of(tmp_path, text)
    assert "only 1 tasks may run at once" in finding.what or "only 1 task" in finding.what


def test_ux_14_a_crowd_on_a_small_machine_is_warned_of(tmp_path: Path) -> None:
    def warned(more: str = "", workflow: str = "", cpus: int = 2, copies: str = "replicas: 400") -> list[str]:
        text = f"workflow: {{name: w, {workflow}tasks: [{{name: t, script: [x], {copies}{more}}}]}}\n"
        warning = crowd_warning(plan_of(tmp_path, text), cpus)
        return [] if warning is None else [warning.what]

    assert warned() == ["400 tasks may run at once on the 2 CPUs of this machine"]
    assert warned(cpus=64) == []
    assert warned(", resources: {cpus: 1}") == []
    assert warned(workflow="max_running: 8, ") == []
    assert warned(copies="foreach: {count: 400}") != []
    assert warned(copies="foreach: {count: 400, max_parallel: 2}") == []


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ("{cpus: 2}", HostNeeds(cpus=2)),
        ("{memory: 8G}", HostNeeds(memory_bytes=8 << 30)),
        ("{cpus: 1, memory: 1.5 MiB}", HostNeeds(cpus=1, memory_bytes=3 << 19)),
        ("{cpus: 0}", None),
        ("{gpus: 1}", None),
    ],
)
def test_ux_14_cpus_and_memory_are_asked_for_as_resources(
    tmp_path: Path, resources: str, expected: HostNeeds | None
) -> None:
    text = f"workflow: {{name: w, tasks: [{{name: t, script: [x], resources: {resources}}}]}}\n"
    backend = "backends: {here: {type: local, gpus_per_node: 2}}\n"
    assert plan_of(tmp_path, backend + text).tasks[0].needs == expected


@pytest.mark.parametrize(
    ("task", "what", "hint"),
    [
        ("resources: {memory: 8}", "", ""),
        ("resources: {memory: much}", 'task "t": resources.memory must be a size with a unit', ""),
        ("resources: {cpus: -1}", 'task "t": resources.cpus must be at least 0', ""),
        ("resources: {cpu: 2}", 'unknown key "cpu"', 'did you mean "cpus"?'),
        ("resources: {mem: 2G}", 'unknown key "mem"', 'did you mean "memory"?'),
        ("cpus: 2", 'unknown key "cpus"', "write resources: {cpus: ...}"),
        ("mem: 2G", 'unknown key "mem"', "write resources: {memory: ...}"),
    ],
)
def test_ux_13_what_is_wrong_with_cpus_and_memory_is_said(
    tmp_path: Path, task: str, what: str, hint: str
) -> None:
    text = f"workflow: {{name: w, tasks: [{{name: t, script: [x], {task}}}]}}\n"
    try:
        found = findings_of(tmp_path, text)
    except SpecError as error:
        found = list(error.findings)
    assert what in found[0].what
    assert hint in (found[0].hint or "")

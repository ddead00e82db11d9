"""Windows and settings of telemetry in files: what agents are ordered, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from protocol.errors import Finding, FleetError
from sflow_ctl.format import schema
from sflow_ctl.plan.monitors import telemetry_orders
from sflow_ctl.runtime.files.settings_files import run_settings
from sflow_ctl.settings import Layer, checked_layer, effective
from tests.unit.planner.planning import plan_of


def _workflow(windows: str) -> str:
    task = f"{{name: a, script: [x], replicas: 2, windows: {windows}}}"
    return f"workflow:\n  name: w\n  tasks: [{task}, {{name: b, script: [x]}}]\n"


def test_agents_look_for_the_windows_of_all_replicas(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, _workflow('[{name: " w ", start: x, end: {pattern: "re:y$", select: last}}]'))
    orders = telemetry_orders(plan.windows, plan.tasks, 0.5, 4)
    assert (orders.every_ms, orders.send_every_ms) == (500, 2000)
    (window,) = orders.windows
    assert (window.name, window.tasks) == ("w", ("a_0", "a_1"))
    assert (window.start.is_last, window.end.is_last) == (False, True)
    assert window.end.patterns[0].is_regex


def test_a_large_fleet_sends_less_often() -> None:
    assert telemetry_orders((), (), 1.0, 1000).send_every_ms == 20_000


@pytest.mark.parametrize(
    ("windows", "code"),
    [
        ("[{name: ' ', start: x, end: y}]", "window-name"),
        ("[{name: a, start: x, end: y}, {name: ' a', start: x, end: y}]", "window-name"),
        ("[{name: a, start: '', end: y}]", "monitor-window"),
        ("[{name: a, start: x, end: 're:('}]", "bad-regex"),
        ("[{name: a, start: x}]", "missing-key"),
    ],
)
def test_windows_that_cannot_be_found_are_refused(tmp_path: Path, windows: str, code: str) -> None:
    with pytest.raises(FleetError) as raised:
        plan_of(tmp_path, _workflow(windows))
    assert [one.code for one in raised.value.findings] == [code]


def _checked(telemetry: Any) -> tuple[Layer, list[Finding]]:
    findings: list[Finding] = []
    layer = checked_layer({"telemetry": telemetry}, lambda _path: "f.yaml:1:1", schema.SiteFile, findings)
    return layer, findings


@pytest.mark.parametrize(
    ("telemetry", "text"),
    [
        ({"every": "10ms"}, "telemetry.every must be at least 100 ms, is 10ms"),
        ({"every": 0}, "telemetry.every must be more than 0 seconds"),
        ({"every": "soon"}, "telemetry.every "),
        ({"openmetrics": "metrics.txt"}, 'telemetry.openmetrics is "metrics.txt": relative to'),
        ({"openmetrics": 0}, "telemetry.openmetrics is 0: no such port"),
        ({"openmetrics": 70_000}, "telemetry.openmetrics is 70000: no such port"),
    ],
)
def test_wrong_settings_are_named(telemetry: dict[str, object], text: str) -> None:
    _, findings = _checked(telemetry)
    (finding,) = findings
    assert finding.code == "wrong-value"
    assert finding.what.startswith(text)


def test_telemetry_is_on_by_default_and_can_be_switched_off(tmp_path: Path) -> None:
    assert run_settings(effective([]), tmp_path).telemetry is not None
    layer, findings = _checked({"enabled": False})
    assert not findings
    assert run_settings(effective([layer]), tmp_path).telemetry is None


@pytest.mark.parametrize(("target", "expected"), [("/tmp/m.prom", "/tmp/m.prom"), (9400, 9400)])
def test_values_can_be_published_in_a_file_or_on_a_port(
    tmp_path: Path, target: object, expected: object
) -> None:
    layer, findings = _checked({"every": "2s", "openmetrics": target})
    assert not findings
    telemetry = run_settings(effective([layer]), tmp_path).telemetry
    assert telemetry is not None
    assert (telemetry.every_s, telemetry.openmetrics) == (2.0, expected)

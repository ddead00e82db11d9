"""Warnings of a plan: each has a code, a place and a remedy, as errors have."""

from pathlib import Path

import pytest

from tests.unit.planner.planning import plan_of

ONE = "workflow:\n  name: w\n  tasks:\n    - name: t\n      script: [x]\n      "


def test_ux_01_a_run_of_services_alone_is_warned_of_with_code_and_place(tmp_path: Path) -> None:
    (warning,) = plan_of(tmp_path, ONE + "probes: {readiness: {tcp_port: {port: 80}}}\n").warnings
    assert warning.code == "only-services"
    assert "every task is a service" in warning.what
    assert "w.yaml:5:7" in str(warning.where)
    assert "--keep-alive" in str(warning.hint)


@pytest.mark.parametrize(
    ("before", "of_task", "code", "field"),
    [
        ("variables: {SFLOW_FOO: 1}\n", "", "reserved-name", "variables.SFLOW_FOO"),
        ("variables: {CUDA_VISIBLE_DEVICES: 1}\n", "", "reserved-name", "variables.CUDA_VISIBLE_DEVICES"),
        ("variables: {backends: 1}\n", "", "namespace-name", "variables.backends"),
        ("artifacts: {SFLOW_A: {uri: 'file://.'}}\n", "", "reserved-name", "artifacts.SFLOW_A"),
        (
            "artifacts: {A: {uri: 'file:///etc/x', content: y}}\n",
            "",
            "outside-run-directory",
            "artifacts.A.uri",
        ),
        ("", "outputs: [{pattern: 'r {r}', metrics: {s: {}}}]", "metric-without-value", "outputs"),
        (
            "",
            "probes: {failure: {log_watch: {regex_pattern: 'a.*b'}}}",
            "regex-as-text",
            "probes.failure",
        ),
        ("secrets: [TOKE]\nvariables: {TOKEN: x}\n", "", "unknown-secret", "secrets[0]"),
        ("variables: {RANDOM: 1}\n", "", "shell-variable", "variables.RANDOM"),
    ],
)
def test_ux_01_every_warning_has_a_code_and_a_place(
    tmp_path: Path, before: str, of_task: str, code: str, field: str
) -> None:
    warnings = plan_of(tmp_path, before + ONE + of_task + "\n").warnings
    assert [one.code for one in warnings] == [code]
    assert "w.yaml:" in str(warnings[0].where)
    assert str(warnings[0].where).endswith(field)

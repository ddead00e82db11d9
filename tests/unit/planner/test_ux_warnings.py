"""Warnings of a plan: each has a code, a place and a remedy, as errors have."""

from pathlib import Path

import pytest

from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.planning import plan_run, read_run
from tests.unit.planner.planning import plan_of

ONE = "workflow:\n  name: w\n  tasks:\n    - name: t\n      script: [x]\n      "


def test_ux_01_a_run_of_services_alone_is_warned_of_with_code_and_place(tmp_path: Path) -> None:
    (warning,) = plan_of(tmp_path, ONE + "probes: {readiness: {tcp_port: {port: 80}}}\n").warnings
    assert warning.code == "only-services"
    assert "every task is a service" in warning.what
    assert "w.yaml:5:7" in str(warning.where)
    assert "--keep-alive" in str(warning.hint)


def test_ux_01_keep_alive_of_the_command_line_is_the_answer_to_that_warning(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(f'version: "0.1"\n{ONE}probes: {{readiness: {{tcp_port: {{port: 80}}}}}}\n')
    for keep_alive, codes in ((False, ["only-services"]), (True, [])):
        options = RunOptions.of(files=(path,), workspace_dir=tmp_path, keep_alive=keep_alive)
        plan = plan_run(read_run(options), options, is_dry=True).plan
        assert [one.code for one in plan.warnings] == codes


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


def test_a_secret_that_exists_nowhere_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "abcdefgh")
    path = tmp_path / "w.yaml"
    path.write_text(f'version: "0.1"\nsecrets: [HF_TOKN, HF_TOKEN, ZQX]\n{ONE}\n')
    options = RunOptions.of(files=(path,), workspace_dir=tmp_path)
    first, second = plan_run(read_run(options), options, is_dry=True).plan.warnings
    assert (first.code, first.hint) == ("unknown-secret", 'did you mean "HF_TOKEN"?')
    assert '"ZQX" is neither a variable of this file nor set in this environment' in second.what
    assert "w.yaml:2:" in str(second.where)

"""Error texts: each says what, where, and what to do, in words that were asked for."""

from pathlib import Path

import pytest

from protocol.errors import Finding, FleetError
from sflow_ctl.runtime.record.directory import RunDirectory
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.planning import plan_run, read_run

HEAD = 'version: "0.1"\nvariables: {PORT: {type: integer, value: 1}}\n'
TASK = "workflow: {name: w, tasks: [{name: a, script: [x]%s}]}\n"


def found(tmp_path: Path, text: str, *overrides: str) -> Finding:
    """Return the only finding."""
    path = tmp_path / "w.yaml"
    path.write_text(HEAD + text)
    options = RunOptions.of(files=(path,), workspace_dir=tmp_path, overrides=overrides)
    with pytest.raises(FleetError) as caught:
        plan_run(read_run(options), options, is_dry=True)
    (finding,) = caught.value.findings
    return finding


@pytest.mark.parametrize(
    ("text", "what", "field", "hint"),
    [
        (
            TASK.replace("[x]", "['${{ variables.PROT }}']") % "",
            'unknown variable "PROT" in ${{ variables.PROT }}',
            "script[0]",
            'did you mean "PORT"?',
        ),
        (TASK.replace("script", "scirpt") % "", 'unknown key "scirpt"', ".scirpt", 'did you mean "script"?'),
        (TASK % ", timeout: soon", "timeout must be seconds or a duration", "tasks[0].timeout", ""),
        (
            TASK % ", probes: {readiness: {tcp_port: {port: abc}}}",
            "tcp_port.port must resolve to int, is 'abc'",
            "probes.readiness.tcp_port.port",
            "",
        ),
        (
            TASK % ", probes: {failure: {log_watch: {match_pattern: x, match_count: few}}}",
            "log_watch.match_count must resolve to int",
            "probes.failure.log_watch.match_count",
            "",
        ),
        (TASK % ", ports: {http: some}", "ports.http must resolve to int", "ports.http", ""),
        (
            "operators: {s: {type: srun, ntasks: few}}\n" + TASK % ", operator: s",
            "operator.ntasks must resolve to int",
            "tasks[0].operator",
            "",
        ),
        (TASK % ", script: [y]", '"script" is given twice', "w.yaml:3:52", "remove one of them"),
        (
            "backends: {b: {type: local, gpus_per_node: 2}}\n" + TASK % ", resources: {gpus: 4}",
            "it needs 2 nodes with 2 GPUs each; the backend has 1",
            "resources.gpus.count",
            "use at most 2",
        ),
        (
            TASK % ", variables: {N: {type: integer, value: zz}}",
            "variable \"N\": expected integer, is 'zz'",
            "tasks[0].variables[0].value",
            "change the value or its type",
        ),
    ],
)
def test_ux_12_a_text_names_the_field_and_the_remedy(
    tmp_path: Path, text: str, what: str, field: str, hint: str
) -> None:
    finding = found(tmp_path, text)
    assert what in finding.what
    assert field in str(finding.where)
    assert hint in str(finding.hint)


def test_ux_12_a_tab_in_the_indentation_is_called_one(tmp_path: Path) -> None:
    finding = found(tmp_path, "workflow:\n  name: w\n\ttasks: [{name: a, script: [x]}]\n")
    assert "a tab in the indentation" in finding.what
    assert finding.hint == "replace the tab with spaces"


@pytest.mark.parametrize("override", ["PORT=abc", "a.N=abc"])
def test_ux_12_what_the_command_line_sets_is_reported_there(tmp_path: Path, override: str) -> None:
    finding = found(tmp_path, TASK % ", variables: {N: {type: integer, value: 1}}", override)
    assert "expected integer, is 'abc'" in finding.what
    assert str(finding.where).startswith(f"--set {override}  ")


def test_ux_12_a_secret_of_the_command_line_is_not_repeated(tmp_path: Path) -> None:
    finding = found(tmp_path, "secrets: [PORT]\n" + TASK % "", "PORT=hunter2")
    assert str(finding.where).startswith("--set PORT=...")
    assert "hunter2" not in str(finding)


def test_ux_12_a_file_in_place_of_the_output_directory_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "sflow_output").write_text("")
    error = RunDirectory(tmp_path / "sflow_output", "r")._not_writable(OSError(17, "File exists"))
    assert f"{tmp_path / 'sflow_output'} is a file, not a directory" in str(error)
    assert "--output-dir" in str(error)

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
        (
            TASK % ", grace: 5",
            'unknown key "grace"',
            "tasks[0].grace",
            "it belongs below stop: write stop: {grace: ...}",
        ),
        (
            TASK % ", stop: {grace_period: 5}",
            'unknown key "grace_period"',
            "stop.grace_period",
            'did you mean "grace"?',
        ),
        (
            TASK % ", backoff: 5",
            'unknown key "backoff"',
            "tasks[0].backoff",
            "it belongs below retries or restart: write",
        ),
        (
            TASK % ", retries: many",
            "expected a number or a mapping, found text",
            "tasks[0].retries",
            "a number, or",
        ),
        (TASK % ", timeout: soon", "timeout must be seconds or a duration", "tasks[0].timeout", ""),
        (
            TASK % ", probes: {readiness: {tcp_port: {port: abc}}}",
            "tcp_port.port must be a whole number, is 'abc'",
            "probes.readiness.tcp_port.port",
            "",
        ),
        (
            TASK % ", probes: {failure: {log_watch: {match_pattern: x, match_count: few}}}",
            "log_watch.match_count must be a whole number",
            "probes.failure.log_watch.match_count",
            "",
        ),
        (TASK % ", ports: {http: some}", "ports.http must be a whole number", "ports.http", ""),
        (
            "operators: {s: {type: srun, ntasks: few}}\n" + TASK % ", operator: s",
            "operator.ntasks must be a whole number",
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


HEAD_OF_TASKS = 'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n'


@pytest.mark.parametrize(
    ("tasks", "what", "place", "hint"),
    [
        ("    - name: a\n      script: [x]\n     depends_on: [b]\n", "indented otherwise", "7:6", "of its neighbours"),
        ("    - name: a\n      scripts\n      log: piped\n", "a key without `: `", "6:7", "`key: value`"),
        ("    - name: a\n      script: [echo ${{ N }}]\n", "braces of an expression", "6:22", "put it in quotes"),
        ("    - {name: a, replicas: ${{ N }}, script: [x]}\n", "braces of an expression", "5:", "put it in quotes"),
        ("    - name: a\n      script: [echo hi\n    - name: b\n", "in brackets is not closed", "7:", "quotes"),
        ("    - name: a\n      script: echo a: b\n", "a second `: `", "6:21", "quotes"),
        ("    - name: a\n      script: - echo\n", "cannot begin with `- `", "6:15", "next line"),
        ("    - name: a\n      script: [*x]\n", "an anchor", "6:16", "quotes"),
        ("    - name: a\n      script: @x\n", "cannot begin with this character", "6:15", "quotes"),
        ("    - {name: a, script: [x]}\n---\n", "a second document", "6:1", "-f merges files"),
        ("    - {name: a, script: [\x07]}\n", "control character 0x07", "5:26", "remove it"),
    ],
)  # fmt: skip
def test_ux_12_a_mistake_in_the_syntax_is_explained(
    tmp_path: Path, tasks: str, what: str, place: str, hint: str
) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(HEAD_OF_TASKS + tasks)
    with pytest.raises(FleetError) as caught:
        read_run(RunOptions.of(files=(path,), workspace_dir=tmp_path))
    (finding,) = caught.value.findings
    assert what in finding.what
    assert str(finding.where).startswith(f"{path}:{place}")
    assert hint in str(finding.hint)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (TASK % ", command: y", 'did you mean "script"?'),
        (TASK % ", needs: [b]", 'did you mean "depends_on"?'),
        (TASK % ", enviroment: x", 'did you mean "environment"?'),
        (TASK % ", gpus: 2", 'did you mean "resources"?'),
        (TASK % ", probes: {ready: {tcp_port: {port: 1}}}", 'did you mean "readiness"?'),
        (TASK % ", probes: {readiness: {tcp_port: 80}}", "e.g. tcp_port: {port: 8000}"),
        (TASK % ", probes: {readiness: {http_get: http://x}}", "e.g. http_get: {url:"),
        ("workflow: {name: w}\ntasks: [{name: a, script: [x]}]\n", "it belongs below workflow"),
        ("workflow: {name: w, finally: [], tasks: [{name: a, script: [x]}]}\n", "it is a field of a task"),
        ("finally: true\nworkflow: {name: w, tasks: [{name: a, script: [x]}]}\n", "it is a field of a task"),
        ("workflow: {name: w, secrets: [K], tasks: [{name: a, script: [x]}]}\n", "beside workflow"),
        ("artifacts: {M: fs:///x}\n" + TASK % "", "e.g. artifacts: {MODEL: {uri:"),
        ("workflow: {name: w, tasks: [a]}\n", "- {name: a, script: [echo hello]}"),
    ],
)
def test_ux_12_words_and_shapes_of_other_tools_are_answered(tmp_path: Path, text: str, hint: str) -> None:
    assert hint in str(found(tmp_path, text).hint)


def test_ux_12_a_task_without_its_script_hides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(
        HEAD_OF_TASKS
        + "    - {name: a, cmd: x, timeout: soon}\n    - {name: b, script: {x: y}, retries: -1}\n"
    )
    options = RunOptions.of(files=(path,), workspace_dir=tmp_path)
    with pytest.raises(FleetError) as caught:
        plan_run(read_run(options), options, is_dry=True)
    fields = [str(one.where).rpartition("workflow.")[2] for one in caught.value.findings]
    assert fields == ["tasks[0].cmd", "tasks[1].script", "tasks[0].timeout", "tasks[1].retries.count"]


@pytest.mark.parametrize(
    ("output", "what"),
    [
        ("pattern: '{a:q}'", "format spec 'q' not recognised"),
        ("pattern: no field", "no named field"),
        ("json: 'a[', source: x", "is not a path into a JSON document"),
    ],
)
def test_public_n4_an_output_that_can_find_nothing_is_refused(tmp_path: Path, output: str, what: str) -> None:
    finding = found(tmp_path, TASK % f", outputs: [{{{output}}}]")
    assert what in finding.what
    assert "tasks[0].outputs[0]." in str(finding.where)
    assert finding.hint


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("hello", "did you mean {}/hello.yaml?"),
        ("helo.yaml", "did you mean {}/hello.yaml?"),
        ("other.yaml", "correct the path"),
        ("nowhere/hello.yaml", "correct the path"),
        ("project", "did you mean {}/project/sflow.yaml?"),
        ("empty", "name a file in it"),
    ],
)
def test_a_file_that_does_not_exist_is_answered_with_one_like_it(
    tmp_path: Path, given: str, hint: str
) -> None:
    for name in ("hello.yaml", "project/sflow.yaml", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(FleetError) as caught:
        read_run(RunOptions.of(files=(tmp_path / given,), workspace_dir=tmp_path))
    assert caught.value.findings[0].hint == hint.format(tmp_path)

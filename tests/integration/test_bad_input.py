"""Each problem is reported in one message with a code, a place and a remedy.

The exit status is 2; nothing is made or started.
"""

import os
from pathlib import Path

import pytest

from tests.support import sflow_ctl

HEAD = 'version: "0.1"\n'


def task_file(body: str, head: str = "") -> str:
    """A workflow of one task `a` with these further lines."""
    lines = "".join(f"      {line}\n" for line in body.splitlines())
    return f"{HEAD}{head}workflow:\n  name: w\n  tasks:\n    - name: a\n{lines}"


CASES = {
    "yaml-syntax": (HEAD + "workflow: [1\nname: x\n", "w.yaml:3:"),
    "duplicate-key": (task_file("script: [x]\nscript: [y]"), "w.yaml:7:7"),
    "unknown-key": (task_file("script: [x]\ndepend_on: []"), "w.yaml:7:18  workflow.tasks[0].depend_on"),
    "wrong-type": (task_file("script: {echo: a}"), "w.yaml:6:15  workflow.tasks[0].script"),
    "missing-key": (task_file("depends_on: []"), "workflow.tasks[0].script"),
    "unsupported-version": (
        'version: "9.9"\nworkflow: {name: w, tasks: [{name: a, script: [x]}]}\n',
        "w.yaml:1:10",
    ),
    "unknown-dependency": (
        task_file("script: [x]\ndepends_on: [b]"),
        "w.yaml:7:20  workflow.tasks[0].depends_on[0]",
    ),
    "cycle": (task_file("script: [x]\ndepends_on: [a]"), "w.yaml:7:"),
    "undefined-name": (
        task_file('script: ["${{ variables.NOPE }}"]'),
        "w.yaml:6:16  workflow.tasks[0].script[0]",
    ),
    "expression-syntax": (task_file('script: ["${{ 1 + }}"]'), "w.yaml:6:16"),
    "gpus-do-not-fit": (
        task_file(
            "script: [x]\nresources: {gpus: {count: 9}}", "backends: {b: {type: local, gpus_per_node: 4}}\n"
        ),
        "w.yaml:8:33  workflow.tasks[0].resources.gpus.count",
    ),
    "value-outside-domain": (
        task_file("script: [x]", "variables: {A: {value: 3, domain: [1, 2]}}\n"),
        "w.yaml:2:24",
    ),
    "unknown-operator": (task_file("script: [x]\noperator: box"), "w.yaml:7:17"),
}


@pytest.mark.parametrize("code", CASES)
def test_a_bad_file_is_one_message_with_a_place(code: str, tmp_path: Path) -> None:
    text, place = CASES[code]
    (tmp_path / "w.yaml").write_text(text)
    done = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"error[{code}]: " in done.stderr
    assert done.stderr.count("error[") == 1, done.stderr
    assert place in done.stderr
    assert "hint:" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["w.yaml"]


@pytest.mark.parametrize("name", ["a/b", "../a", "..", ".hidden", ""])
def test_a_name_that_cannot_be_a_directory_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        f'{HEAD}workflow: {{name: w, tasks: [{{name: "{name}", script: [x]}}]}}\n'
    )
    done = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "error[unsafe-name]" in done.stderr
    assert "w.yaml:2:" in done.stderr, done.stderr
    assert "workflow.tasks[0].name" in done.stderr, done.stderr
    assert "hint:" in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["w.yaml"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = sflow_ctl("run", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "error[file-not-found]" in done.stderr
    assert "nowhere.yaml" in done.stderr
    assert "hint:" in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_a_file_sflow_yaml_is_meant(tmp_path: Path) -> None:
    done = sflow_ctl("run", cwd=tmp_path)
    assert done.returncode == 2
    assert "sflow.yaml" in done.stderr
    assert "hint:" in done.stderr


def test_all_findings_are_shown_at_once(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        f"{HEAD}workflow:\n  name: w\n  tasks:\n    - {{name: a, scirpt: [x]}}\n    - {{name: b, script: {{x: 1}}, nope: 1}}\n"
    )
    done = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert done.stderr.count("error[") == 3, done.stderr
    assert 'did you mean "script"?' in done.stderr
    assert "missing" not in done.stderr, "the misspelling explains it"


def test_an_existing_run_directory_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(task_file("script: ['true']"))
    assert sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path).returncode == 0
    before = (tmp_path / "sflow_output" / "r" / ".sflow/events.jsonl").read_bytes()
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "error[run-directory-exists]" in done.stderr
    assert "hint:" in done.stderr, done.stderr
    assert (tmp_path / "sflow_output" / "r" / ".sflow/events.jsonl").read_bytes() == before


def test_an_output_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(task_file("script: ['true']"))
    (tmp_path / "file").write_text("in the way")
    done = sflow_ctl("run", "w.yaml", "--output-dir", "file/out", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "error[run-directory-not-writable]" in done.stderr
    assert "--output-dir" in done.stderr
    assert (tmp_path / "file").read_text() == "in the way"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "w.yaml"]


def test_a_missing_bash_is_reported_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(task_file("script: ['true']"))
    done = sflow_ctl("run", "w.yaml", cwd=tmp_path, env={"PATH": str(tmp_path)})
    assert done.returncode == 2, done.stderr
    assert "error[program-not-found]" in done.stderr
    assert '"bash"' in done.stderr
    assert "hint:" in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["w.yaml"]


def test_an_unknown_option_is_a_usage_error(tmp_path: Path) -> None:
    done = sflow_ctl("run", "--nodse", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert "--nodes" in done.stderr


def test_f63_paths_that_are_not_utf_8_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    other = tmp_path / os.fsdecode(b"d\xe9r")
    other.mkdir()
    (other / "w.yaml").write_text(task_file("script: [x]"))
    (tmp_path / "w.yaml").write_text(task_file("script: [x]"))
    for arguments, directory in (
        (("w.yaml",), other),
        (("w.yaml", "--output-dir", os.fsdecode(b"o\xe9")), tmp_path),
    ):
        done = sflow_ctl("run", *arguments, cwd=directory)
        assert done.returncode == 2
        assert done.stderr.startswith("error[not-utf-8]: a path or argument is not UTF-8: ")
        assert "\\xe9" in done.stderr
        assert "--output-dir" in done.stderr
    assert sorted(path.name for path in other.iterdir()) == ["w.yaml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "w.yaml"]

"""`init`, `validate`, `completion` and `run --resume last`: what a newcomer types first."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from protocol.errors import UsageError
from sflow_ctl.cli.app import group
from sflow_ctl.runtime.files.templates import templates
from tests.support import sflow_ctl

BAD = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: [x], timeout: soon, depends_on: b}
    - {name: b, script: ["echo ${{ variables.NO }}"], depends_on: a}
"""


@pytest.mark.parametrize("name", sorted(templates()))
def test_each_template_is_valid_and_runs_here(name: str, tmp_path: Path) -> None:
    made = sflow_ctl("init", name, cwd=tmp_path)
    assert made.stdout == "✓ Saved to sflow.yaml. Try it: sflow-ctl run\n"
    text = (tmp_path / "sflow.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=.sflow.schema.json\n# ")
    pytest.importorskip("jsonschema").validate(
        yaml.safe_load(text), json.loads((tmp_path / ".sflow.schema.json").read_text())
    )
    checked = sflow_ctl("validate", cwd=tmp_path)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    done = sflow_ctl("run", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "results.csv" in done.stdout


def test_templates_show_what_they_are_for(tmp_path: Path) -> None:
    assert list(templates()) == ["map-reduce", "resume-demo", "serve-and-bench", "sweep", "train-eval"]
    said = {}
    for name in ("map-reduce", "resume-demo"):
        assert sflow_ctl("init", name, "--no-schema", "-o", f"{name}.yaml", cwd=tmp_path).returncode == 0
        said[name] = sflow_ctl("run", f"{name}.yaml", cwd=tmp_path).stdout
    assert "[total] total = 195\n" in said["map-reduce"]
    assert "[train] begins after step 3\n[train] steps = 6\n" in said["resume-demo"]


def test_init_overwrites_nothing_and_knows_its_templates(tmp_path: Path) -> None:
    (tmp_path / "sflow.yaml").write_text("mine")
    refused = sflow_ctl("init", cwd=tmp_path)
    assert refused.returncode == 2
    assert "error[file-exists]: sflow.yaml exists already" in refused.stderr
    assert (tmp_path / "sflow.yaml").read_text() == "mine"
    assert sflow_ctl("init", "--force", "--no-schema", "-o", ".", cwd=tmp_path).returncode == 0
    assert not (tmp_path / ".sflow.schema.json").exists()
    misspelled = sflow_ctl("init", "swep", cwd=tmp_path)
    assert 'did you mean "sweep"?' in misspelled.stderr
    listed = sflow_ctl("init", "--list", cwd=tmp_path).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(templates())


def test_ux_12_validate_prints_all_findings_of_all_stages_by_place(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(BAD)
    done = sflow_ctl("validate", "w.yaml", cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert all(line.startswith("w.yaml:") for line in lines), lines
    assert any(line.startswith("w.yaml:5:") and "soon" in line for line in lines)
    assert any("NO" in line for line in lines)
    assert any("cycle" in line for line in lines)
    report = json.loads(sflow_ctl("validate", "--json", "w.yaml", cwd=tmp_path).stdout)
    assert (report["version"], report["is_valid"]) == (1, False)
    assert len(report["findings"]) == len(lines)
    first = report["findings"][0]
    assert (first["file"], first["level"]) == ("w.yaml", "error")
    assert isinstance(first["line"], int)


def test_validate_reports_warnings_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: [x], probes: {readiness: {tcp_port: {port: 1}}}}]}\n'
    )
    done = sflow_ctl("validate", "w.yaml", cwd=tmp_path)
    assert done.returncode == 0
    assert "warning[" in done.stdout
    missing = sflow_ctl("validate", cwd=tmp_path)
    assert missing.returncode == 2
    assert "sflow.yaml" in missing.stdout


def complete(cwd: Path, *words: str) -> list[str]:
    """What bash would offer for the last of these words."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("sflow-ctl"))],
        cwd=cwd,
        env={
            "PATH": "/usr/bin:/bin",
            "_SFLOW_CTL_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["sflow-ctl", *words]),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_ux_15_the_tab_key_knows_runs_and_tasks(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: load, script: ["true"]}, {name: lone, script: ["true"]}]}\n'
    )
    assert complete(tmp_path, "logs", "l") == ["last"]  # a run; there are no tasks yet
    assert sflow_ctl("run", "w.yaml", "--run-id", "first", cwd=tmp_path).returncode == 0
    assert sflow_ctl("run", "w.yaml", "--run-id", "second", cwd=tmp_path).returncode == 0
    assert complete(tmp_path, "sta") == ["status"]
    assert complete(tmp_path, "status", "") == ["second", "first", "last"]
    assert complete(tmp_path, "attach", "fi") == ["first"]
    assert complete(tmp_path, "run", "--resume", "se") == ["second"]
    assert complete(tmp_path, "logs", "lo") == ["load", "lone"]
    assert complete(tmp_path, "wait", "first", "lo") == ["load", "lone"]
    assert "--since" in complete(tmp_path, "logs", "--s")
    assert complete(tmp_path, "nosuch", "x") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_ux_15_the_script_of_each_shell_is_sound(shell: str, tmp_path: Path) -> None:
    done = sflow_ctl("completion", shell, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "_SFLOW_CTL_COMPLETE" in done.stdout
    assert done.stdout.startswith("# To install: ")
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    (tmp_path / "script").write_text(done.stdout)
    subprocess.run([program, "-n", str(tmp_path / "script")], check=True, timeout=30)


def test_ux_09_the_last_run_is_resumed_by_that_name(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["[ -e go ]"]}]}\n'
    )
    assert sflow_ctl("run", "w.yaml", "--run-id", "one", cwd=tmp_path).returncode == 1
    (tmp_path / "go").touch()
    done = sflow_ctl("run", "--resume", "last", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Resuming sflow_output/one" in done.stdout


@pytest.mark.parametrize(("typed", "meant"), [("explane", "explain"), ("int", "init"), ("evnets", "events")])
def test_ux_15_new_commands_are_guessed_too(typed: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        group.main([typed], standalone_mode=False)
    assert caught.value.findings[0].hint == f'did you mean "{meant}"?'


@pytest.mark.parametrize("words", [("init", "sweep"), ("sample", "copy", "diamond")])
def test_a_path_with_a_slash_is_a_directory(words: tuple[str, ...], tmp_path: Path) -> None:
    done = sflow_ctl(*words, "-o", "new/folder/", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name = "sflow" if words[0] == "init" else words[2]
    assert done.stdout.startswith(f"✓ Saved to new/folder/{name}.yaml")
    assert (tmp_path / f"new/folder/{name}.yaml").is_file()


@pytest.mark.parametrize(
    "words", [("report", "-o"), ("bundle", "-o"), ("visualize", "-o"), ("batch", "-p", "p", "-o")]
)
def test_a_file_is_not_called_as_the_directory_it_should_be_in(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    done = sflow_ctl(*words, "new/", cwd=tmp_path)
    assert done.returncode == 2
    assert "new/ is a directory: name the file, as new/NAME" in done.stderr
    assert not list(tmp_path.iterdir())


def test_words_of_other_programs_for_samples_are_answered(tmp_path: Path) -> None:
    done = sflow_ctl("sample", "export", "diamond", cwd=tmp_path)
    assert done.returncode == 2
    assert 'there is no command "sample export"' in done.stderr
    assert 'did you mean "sample copy"?' in done.stderr

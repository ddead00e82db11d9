"""A workflow file that was edited since its run began: `status`, `attach` and a resume say that the run does not use it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import Run, command, sflow_ctl, wait_until

TEXT = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: ["echo %s; test -e go"]}
"""
SAID = "has changed since the run; the run's own copy is used"


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    """A project whose run has failed."""
    (tmp_path / "w.yaml").write_text(TEXT % "old")
    assert sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path).returncode == 1
    (tmp_path / "go").touch()
    return tmp_path


def test_ux_09_a_resume_without_a_file_says_that_the_file_has_changed(failed: Path) -> None:
    assert "has changed" not in sflow_ctl("status", "r", cwd=failed).stdout
    (failed / "w.yaml").write_text(TEXT % "new")
    shown = sflow_ctl("status", "r", cwd=failed).stdout
    assert f"w.yaml {SAID} (to use the files: sflow-ctl run w.yaml --resume sflow_output/r)" in shown
    done = sflow_ctl("run", "--resume", "r", cwd=failed)
    assert done.returncode == 0, done.stderr
    assert f"sflow-ctl: w.yaml {SAID}" in done.stderr
    assert (failed / "sflow_output/r/a/a.log").read_text() == "old\n"
    assert "has changed" not in sflow_ctl("status", "r", cwd=failed).stdout, "it has completed: nothing to do"


def test_ux_09_a_resume_with_the_file_uses_it(failed: Path) -> None:
    (failed / "go").unlink()
    (failed / "w.yaml").write_text(TEXT % "new")
    done = sflow_ctl("run", "w.yaml", "--resume", "r", cwd=failed)
    assert "has changed since" not in done.stderr
    assert "has changed since" not in sflow_ctl("status", "r", cwd=failed).stdout
    again = sflow_ctl("run", "--resume", "r", cwd=failed)
    assert "has changed since" not in again.stderr
    (failed / "w.yaml").write_text(TEXT % "newer")
    assert SAID in sflow_ctl("run", "--resume", "r", cwd=failed).stderr, (
        "each resume keeps what it was made from"
    )


def test_ux_09_files_that_are_gone_or_were_pipes_are_not_said_to_have_changed(failed: Path) -> None:
    (failed / "w.yaml").unlink()
    assert "has changed" not in sflow_ctl("status", "r", cwd=failed).stdout
    shutil.copytree(failed / "sflow_output", failed / "elsewhere/sflow_output")
    assert "has changed" not in sflow_ctl("status", "r", cwd=failed / "elsewhere").stdout


def test_ux_09_attach_says_it_of_a_live_run(tmp_path: Path) -> None:
    run = Run.start(TEXT % "old; sleep 600", tmp_path)
    try:
        run.wait_for("a", "running")
        (tmp_path / "r.yaml").write_text(TEXT % "new")
        out = tmp_path / "attached"
        with (
            out.open("w") as file,
            subprocess.Popen(command("attach", "r"), cwd=tmp_path, stdout=file) as attached,
        ):
            wait_until(lambda: f"r.yaml {SAID}" in out.read_text(), "attach says it", 20)
            attached.terminate()
    finally:
        run.kill()


def test_ux_09_the_next_step_names_the_file_to_edit(failed: Path) -> None:
    wanted = "sflow-ctl run w.yaml --resume sflow_output/r  (after editing the file)"
    for words in (("status", "r"), ("attach", "r"), ("explain", "r")):
        assert wanted in sflow_ctl(*words, cwd=failed).stdout
    (failed / "go").unlink()
    ended = sflow_ctl("run", "--resume", "r", cwd=failed)
    assert (ended.returncode, wanted in ended.stdout) == (1, True)
    piping = command("run", "/dev/stdin", "--run-id", "p")
    piped = subprocess.run(
        piping, cwd=failed, input=TEXT % "piped", capture_output=True, text=True, check=False
    )
    assert "sflow-ctl run FILE --resume sflow_output/p" in piped.stdout

"""What commands say about run directories that are damaged or gone, and about windows that never began."""

import shutil
from pathlib import Path

import pytest

from tests.support import Run, sflow_ctl, wait_until

WORKFLOW = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["sleep 600; true"]}]}\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run has ended."""
    place = tmp_path_factory.mktemp("damaged")
    (place / "w.yaml").write_text(WORKFLOW.replace("sleep 600; ", ""))
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.mark.parametrize("name", ["run.json", "plan.json"])
def test_a_file_that_was_cut_off_is_called_damaged(place: Path, name: str) -> None:
    path = place / "sflow_output/r/.sflow" / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        done = sflow_ctl("status", "r", cwd=place)
    finally:
        path.write_bytes(whole)
    assert done.returncode != 0
    assert f"{name} is damaged, or was not written to its end" in done.stderr
    assert "hint:  the logs in its tasks' directories are as they were" in done.stderr
    assert "another version" not in done.stderr


def test_a_plan_that_is_missing_has_a_hint(place: Path) -> None:
    path = place / "sflow_output/r/.sflow/plan.json"
    path.rename(path.with_suffix(".away"))
    try:
        done = sflow_ctl("status", "r", cwd=place)
    finally:
        path.with_suffix(".away").rename(path)
    assert "plan.json: No such file or directory" in done.stderr
    assert "hint:  ls -l " in done.stderr


def test_the_end_of_a_window_that_has_not_begun_is_a_warning(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    env = {"SFLOW_MARKS_FILE": str(marks)}
    said = 'warning: the window "epoch 1" has not begun, or has ended already: nothing is marked\n'
    done = sflow_ctl("mark", "epoch 1", "--end", cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, said)
    assert not marks.exists()
    for words, expected in ((("epoch 1",), ""), (("epoch 1", "--end"), ""), (("epoch 1", "--end"), said)):
        assert sflow_ctl("mark", *words, cwd=tmp_path, env=env).stderr == expected
    assert [line.split(" ", 1)[1] for line in marks.read_text().splitlines()] == [
        "begin epoch 1",
        "end epoch 1",
    ]


def test_a_run_whose_directory_was_deleted_ends(tmp_path: Path) -> None:
    run = Run.start(WORKFLOW, tmp_path)
    try:
        run.wait_for("a", "running")
        pid = run.pid_of("a")
        shutil.rmtree(run.directory)
        status, said = run.finish()
        assert status != 0
        assert (
            f"the run directory {run.directory} was deleted: no command reaches this run any more, and it ends"
            in said
        )
        assert "Traceback" not in said
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its task has ended")
    finally:
        run.kill()

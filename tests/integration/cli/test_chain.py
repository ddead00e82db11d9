"""`batch --chain`: its script run by bash as Slurm would, job after job, with stand-ins for sbatch and scancel."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.test_batch import OPTIONS, stand_in
from tests.support import sflow_ctl, wait_until

WORKFLOW = """
version: "0.1"
workflow:
  name: long
  tasks:
    - {name: first, script: ["echo first"]}
    - name: second
      depends_on: [first]
      script: ["echo try >> $SFLOW_WORKSPACE_DIR/tries", "[ -e $SFLOW_WORKSPACE_DIR/go ] || sleep 600"]
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment whose sbatch gives numbers from 101, and notes its calls."""
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    stand_in(tmp_path / "bin", "scancel", f'echo "$@" >> {tmp_path}/cancelled')
    count = f"n=$(cat {tmp_path}/count 2>/dev/null || echo 100); n=$((n+1)); echo $n > {tmp_path}/count"
    return stand_in(tmp_path / "bin", "sbatch", f'{count}; echo "$@" >> {tmp_path}/submitted; echo $n')


def written(tmp_path: Path, slurm: dict[str, str], *options: str) -> Path:
    words = ("batch", "w.yaml", *OPTIONS, "-o", "job.sh", *options)
    done = sflow_ctl(*words, cwd=tmp_path, env=slurm)
    assert done.returncode == 0, done.stderr
    return tmp_path / "job.sh"


def job(tmp_path: Path, slurm: dict[str, str], job_id: str) -> "subprocess.Popen[str]":
    """A job that runs the script, as the first process of its own session."""
    env = {**os.environ, **slurm, "SLURM_JOB_ID": job_id}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        ["bash", tmp_path / "job.sh"], cwd=tmp_path, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )


def chain(tmp_path: Path) -> Any:
    (file,) = tmp_path.glob("job.*.chain.json")
    return json.loads(file.read_text())


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def cut_off(tmp_path: Path, slurm: dict[str, str], job_id: str) -> str:
    """A job that Slurm ends while the second task runs."""
    tries = len(lines(tmp_path / "tries"))
    process = job(tmp_path, slurm, job_id)
    wait_until(lambda: len(lines(tmp_path / "tries")) > tries, "the second task runs")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    return output


def test_jobs_follow_until_the_run_is_done(tmp_path: Path, slurm: dict[str, str]) -> None:
    written(tmp_path, slurm, "--until-done")
    output = cut_off(tmp_path, slurm, "100")
    assert "chain: job 1 of at most 100; 101 follows" in output
    assert "chain: 101 continues the run" in output
    assert lines(tmp_path / "submitted")[0].endswith(f"--dependency=afterany:100 {tmp_path}/job.sh")
    (tmp_path / "go").touch()
    second = job(tmp_path, slurm, "101")
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0, output
    assert "kept: first" in output
    assert "the run has completed; job 102, which was to follow, is cancelled" in output
    assert lines(tmp_path / "cancelled") == ["102"]
    third = job(tmp_path, slurm, "102")  # scancel came too late
    output, _ = third.communicate(timeout=60)
    assert (third.returncode, "the run has completed" in output) == (0, True), output
    assert len(lines(tmp_path / "submitted")) == 2
    assert [link["job_id"] for link in chain(tmp_path)["links"]] == ["100", "101"]


def test_a_chain_stops_when_nothing_has_moved(tmp_path: Path, slurm: dict[str, str]) -> None:
    written(tmp_path, slurm, "--chain", "9", "--watch-progress", "ckpt/*")
    cut_off(tmp_path, slurm, "100")  # the first task has completed
    (tmp_path / "ckpt").mkdir()
    cut_off(tmp_path, slurm, "101")
    third = job(tmp_path, slurm, "102")
    output, _ = third.communicate(timeout=60)
    assert third.returncode == 1
    assert "nothing has moved in job 101: no task has completed, no watched file has changed" in output
    assert len(lines(tmp_path / "submitted")) == 2
    assert len(lines(tmp_path / "tries")) == 2


def test_a_run_that_fails_ends_its_chain(tmp_path: Path, slurm: dict[str, str]) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW.replace("sleep 600", "exit 4"))
    written(tmp_path, slurm, "--chain", "3")
    one = job(tmp_path, slurm, "100")
    output, _ = one.communicate(timeout=60)
    assert one.returncode == 1
    assert "the run has ended: failed; job 101, which was to follow, is cancelled" in output
    assert lines(tmp_path / "cancelled") == ["101"]


def test_dependencies_name_jobs_or_runs_and_wrong_words_are_refused(
    tmp_path: Path, slurm: dict[str, str]
) -> None:
    env = {**slurm, "SLURM_JOB_ID": "77"}
    (tmp_path / "short.yaml").write_text(
        'version: "0.1"\nworkflow: {name: s, tasks: [{name: a, script: [":"]}]}\n'
    )
    assert (
        sflow_ctl("run", "short.yaml", "--run-id", "mine", "--nodes", "1", cwd=tmp_path, env=env).returncode
        == 0
    )
    script = written(
        tmp_path, slurm, "--after-ok", "mine:5", "--after-any", "6", "--after-not-ok", "7", "--requeue"
    )
    text = script.read_text()
    assert "#SBATCH --dependency=afterok:77:5,afterany:6,afternotok:7\n" in text
    assert "#SBATCH --kill-on-invalid-dep=yes\n" in text
    assert "#SBATCH --requeue\n" in text
    for words, said in (
        (("--after-any", "nothing"), '"nothing" is neither a job id nor a run'),
        (("--watch-progress", "x"), "--watch-progress is for a chain"),
    ):
        done = sflow_ctl("batch", "w.yaml", *OPTIONS, *words, cwd=tmp_path, env=slurm)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    done = sflow_ctl("batch", "w.yaml", *OPTIONS, "--chain", "2", cwd=tmp_path, env=slurm)
    assert (done.returncode, "a chain needs a script" in done.stderr) == (2, True)


def test_slurm_that_can_expedites_a_requeue(tmp_path: Path, slurm: dict[str, str]) -> None:
    newer = stand_in(tmp_path / "newer", "sbatch", "echo slurm 25.11.2")
    assert "#SBATCH --requeue=expedite\n" in written(tmp_path, newer, "--requeue").read_text()

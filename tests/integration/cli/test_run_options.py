"""`run`: only some tasks, and how much is noted."""

import re
import subprocess
from pathlib import Path

from tests.support import EXAMPLES, read_json, sflow_ctl

DIAMOND = EXAMPLES / "diamond.yaml"


def test_only_a_task_and_its_dependencies(tmp_path: Path) -> None:
    done = sflow_ctl("run", DIAMOND, "-t", "square", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "squared 6 samples" in done.stdout
    plan = read_json(tmp_path / "sflow_output" / "r" / ".sflow/plan.json")
    assert isinstance(plan, dict)
    assert [task["name"] for task in plan["tasks"]] == ["prepare", "square"]


def test_only_a_task(tmp_path: Path) -> None:
    done = sflow_ctl(
        "run", DIAMOND, "--task", "prepare", "--task", "double", "--skip-dependencies", cwd=tmp_path
    )
    assert done.returncode == 0
    assert "doubled 6 samples" in done.stdout
    alone = sflow_ctl("run", DIAMOND, "-t", "double", "--skip-dependencies", cwd=tmp_path)
    assert "prepared" not in alone.stdout


def test_names_and_combinations_that_are_wrong(tmp_path: Path) -> None:
    unknown = sflow_ctl("run", DIAMOND, "-t", "sqare", cwd=tmp_path)
    assert unknown.returncode == 2
    assert 'did you mean "square"?' in unknown.stderr
    nothing = sflow_ctl("run", DIAMOND, "--skip-dependencies", cwd=tmp_path)
    assert nothing.returncode == 2
    assert "needs --task" in nothing.stderr
    assert not (tmp_path / "sflow_output").exists()


def test_how_much_the_log_notes(tmp_path: Path) -> None:
    for level, has_lines in (("INFO", True), ("warning", False)):
        sflow_ctl("run", EXAMPLES / "hello.yaml", "--log-level", level, "--run-id", level, cwd=tmp_path)
        assert bool((tmp_path / "sflow_output" / level / "sflow.log").read_text()) is has_lines
    assert sflow_ctl("run", "--log-level", "loud", cwd=tmp_path).returncode == 2


def test_the_caller_may_say_what_ids_of_runs_begin_with(tmp_path: Path) -> None:
    for variables, beginning in (
        ({"SFLOW_RUN_ID_PREFIX": "nightly", "SLURM_JOBID": "7"}, "nightly-hello-"),
        ({"SFLOW_RUN_ID_PREFIX": "", "SLURM_JOBID": ""}, "hello-"),
    ):
        place = tmp_path / beginning
        place.mkdir()
        done = sflow_ctl("run", EXAMPLES / "hello.yaml", "--nodes", "1", cwd=place, env=variables)
        assert done.returncode == 0, done.stderr
        (run,) = (place / "sflow_output").iterdir()
        assert run.name.startswith(beginning)


MISSING = """
version: "0.1"
artifacts: {M: {uri: "fs:///not/there"}}
workflow: {name: w, tasks: [{name: a, script: ['echo "path $M"']}]}
"""


def test_artifacts_may_be_missing_if_the_user_says_so(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(MISSING)
    refused = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert refused.returncode == 2
    assert "error[artifact-missing]" in refused.stderr
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", "--skip-artifact-check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning[artifact-missing]" in done.stderr
    assert (tmp_path / "sflow_output/r/a/a.log").read_text() == "path /not/there\n"


def test_the_choice_is_passed_on_by_batch_and_the_job_runs(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(MISSING)
    options = ("-N", "1", "-p", "part", "-A", "acc", "-o", "job.sh")
    warned = sflow_ctl("batch", "w.yaml", *options, cwd=tmp_path)  # the job's nodes may have it
    assert warned.returncode == 0
    assert "warning[artifact-missing]" in warned.stderr
    refused = subprocess.run(
        ["bash", "job.sh"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2
    assert "error[artifact-missing]" in refused.stderr
    made = sflow_ctl("batch", "w.yaml", *options, "--skip-artifact-check", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    ran = subprocess.run(
        ["bash", "job.sh"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "path /not/there" in ran.stdout


def test_options_of_sflow_about_logs_are_accepted(tmp_path: Path) -> None:
    for option in ("--offload-task-logs", "--no-offload-task-logs"):
        done = sflow_ctl("run", EXAMPLES / "hello.yaml", option, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nbackends: {here: {type: local, offload_task_logs: false}}\n'
        "operators: {b: {type: bash, log_to_file: false}}\n"
        "workflow: {name: w, tasks: [{name: a, operator: b, script: [echo logged]}]}\n"
    )
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", "--strict", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sflow_output/r/a/a.log").read_text() == "logged\n"


def test_the_name_of_a_run_begins_with_the_prefix_of_the_environment(tmp_path: Path) -> None:
    env = {"SFLOW_RUN_ID_PREFIX": "mine", "SLURM_JOB_ID": "7"}
    assert sflow_ctl("run", EXAMPLES / "hello.yaml", cwd=tmp_path, env=env).returncode == 0
    (run,) = (
        path for path in (tmp_path / "sflow_output").iterdir() if not path.name.startswith((".", "last"))
    )
    assert run.name.startswith("mine-hello-")
    wrong = sflow_ctl("run", EXAMPLES / "hello.yaml", cwd=tmp_path, env={"SFLOW_RUN_ID_PREFIX": "../x"})
    assert wrong.returncode == 2
    assert "cannot be the name of a directory" in wrong.stderr


def test_a_wait_for_gpus_is_a_number_of_seconds(tmp_path: Path) -> None:
    wrong = sflow_ctl("run", EXAMPLES / "hello.yaml", "--wait-for-gpus", "600s", cwd=tmp_path)
    assert wrong.returncode == 2
    assert '"600s" is not a number of seconds' in wrong.stderr
    for given in ("", "0", "5"):
        done = sflow_ctl("run", EXAMPLES / "hello.yaml", "--wait-for-gpus", given, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_an_empty_value_is_not_taken_for_the_working_directory_or_for_none(tmp_path: Path) -> None:
    for words in (
        ("run", EXAMPLES / "hello.yaml", "--output-dir", ""),
        ("run", EXAMPLES / "hello.yaml", "--run-id="),
        ("status", "--output-dir", ""),
        ("clean", "--yes", "--output-dir="),
    ):
        done = sflow_ctl(*words, cwd=tmp_path)
        assert done.returncode == 2
        assert "error[empty-value]: the value of --" in done.stderr
    assert list(tmp_path.iterdir()) == []
    kept = sflow_ctl("run", EXAMPLES / "hello.yaml", "--run-id", "r", "--", cwd=tmp_path)
    assert kept.returncode == 0, kept.stderr


def test_the_name_auto_is_that_of_a_run_without_one(tmp_path: Path) -> None:
    for _ in range(2):
        done = sflow_ctl("run", DIAMOND, "-t", "prepare", "--run-id", "auto", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    names = [path.name for path in (tmp_path / "sflow_output").iterdir()]
    assert len(names) == 2
    assert all(re.fullmatch(r"diamond-\d{8}-\d{6}-[0-9a-f]{6}", name) for name in names), names

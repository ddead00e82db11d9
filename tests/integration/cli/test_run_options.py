"""`run`: only some tasks, and how much is noted."""

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

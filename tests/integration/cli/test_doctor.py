"""`sflow-ctl doctor` on this machine, and the warnings of a run."""

import json
import os
import subprocess
from pathlib import Path

from tests.support import Run, command, lines_with, marked, sflow_ctl, wait_until


def test_local_agents_are_examined_and_nothing_is_left(tmp_path: Path) -> None:
    done = sflow_ctl("doctor", "--nodes", "3", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = json.loads(done.stdout)
    assert [node["name"] for node in loaded["facts"]["nodes"]] == ["localhost", "localhost-1", "localhost-2"]
    mesh = [result for node in loaded["facts"]["nodes"] for result in node["mesh"]]
    assert len(mesh) == 6
    assert not any(result.get("problem") for result in mesh)
    assert all(abs(node["clock"]["ahead_s"]) < 1 for node in loaded["facts"]["nodes"])
    assert all(node["shares_run_directory"] for node in loaded["facts"]["nodes"])
    assert not list(tmp_path.iterdir())
    wait_until(lambda: not marked("doctor"), "no process is left")


def test_each_topic_is_a_line_and_verbose_shows_the_facts(tmp_path: Path) -> None:
    short = sflow_ctl("doctor", cwd=tmp_path)
    long = sflow_ctl("doctor", "--verbose", cwd=tmp_path)
    for done in (short, long):
        assert done.returncode == 0, done.stdout + done.stderr
        for topic in (
            "agents",
            "mesh",
            "clocks",
            "cpus",
            "memory",
            "limits",
            "directories",
            "versions",
            "leftovers",
        ):
            assert any(line.split()[1:2] == [topic] for line in done.stdout.splitlines()), topic
    assert "1 node: localhost" in short.stdout
    assert len(long.stdout.splitlines()) > len(short.stdout.splitlines())


def test_an_output_directory_that_exists_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    assert sflow_ctl("doctor", "--output-dir", "out", cwd=tmp_path).returncode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_failure_is_named_with_its_fix_and_is_the_exit_status(tmp_path: Path) -> None:
    done = sflow_ctl("doctor", "--gpus-per-node", "512", "--nodes", "2", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = lines_with(done.stdout, "FAIL", "gpus", "localhost, localhost-1")
    assert line.endswith("--gpus-per-node says 512")
    assert lines_with(done.stdout, "fix:", "nvidia-smi")


def test_places_that_cannot_be_written_are_failures(tmp_path: Path) -> None:
    done = sflow_ctl("doctor", cwd=tmp_path, env={"TMPDIR": "/proc/no/such"})
    assert done.returncode == 1
    assert lines_with(done.stdout, "FAIL", "directories", "temporary files /proc/no/such")
    refused = sflow_ctl("doctor", "--output-dir", "/proc/no/such", cwd=tmp_path)
    assert refused.returncode == 2
    assert "no run directory can be made in /proc/no/such" in refused.stderr


def test_leftovers_of_an_earlier_run_are_named_with_a_remedy(tmp_path: Path) -> None:
    environment = {**os.environ, "SFLOW_RUN_MARKER": f"lost-{os.getpid()}-0123abcd"}
    with subprocess.Popen(["sleep", "60"], env=environment) as lost:
        try:
            done = sflow_ctl("doctor", cwd=tmp_path)
        finally:
            lost.kill()
    assert done.returncode == 0
    assert lines_with(done.stdout, "warn", "leftovers", f"1 process of run lost-{os.getpid()} are left")
    assert lines_with(done.stdout, f"fix: kill {lost.pid}")


def test_a_job_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = sflow_ctl("doctor", "--jobid", "99999999", cwd=tmp_path)
    assert done.returncode == 3
    assert "job 99999999 is unknown to Slurm" in done.stderr


def test_f42_a_run_warns_of_few_descriptors_once_for_all_nodes_and_continues(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["ulimit -Sn; sleep 2"]}]}\n'
    )
    limited = ["prlimit", "--nofile=300:2000", *command("run", "w.yaml", "--nodes", "2", "--run-id", "r")]
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (warning,) = lines_with(done.stdout, "warning:", "may open 2000 files at most")
    log = (tmp_path / "sflow_output" / "r" / "sflow.log").read_text()
    assert lines_with(log, "WARNING", warning.removeprefix("warning: "))
    assert lines_with(done.stdout, "300")  # the task's own limit is what the run was started with


def test_a_run_of_healthy_nodes_warns_of_nothing(tmp_path: Path) -> None:
    run = Run.start(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["sleep 2"]}]}\n',
        tmp_path,
        "--nodes",
        "2",
    )
    try:
        status, output = run.finish()
    finally:
        run.kill()
    assert status == 0
    assert "warning" not in output

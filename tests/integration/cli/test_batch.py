"""`batch`: a script for one workflow, made by the command line and run by bash, with a stand-in for sbatch."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sflow_ctl.batch.script import BatchJob, batch_script
from tests.support import sflow_ctl, wait_until

LOCAL = """
version: "0.1"
variables: {SAY: hello, STATUS: 0}
workflow:
  name: demo
  tasks: [{name: a, script: ['printf "said <%s>\\n" "$SAY"', "exit $STATUS"]}]
"""
SLURM = """
version: "0.1"
variables: {NODES: 2}
backends:
  pool: {type: slurm, account: lab, partition: gpu, nodes: "${{ NODES }}", gpus_per_node: 4, time: "01:00:00"}
workflow:
  name: demo
  tasks: [{name: a, script: [x], resources: {gpus: {count: 8}}}]
"""
OPTIONS = ("-N", "1", "-p", "part", "-A", "acc")
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


def stand_in(folder: Path, name: str, script: str) -> dict[str, str]:
    """The environment in which a program of that name is this shell script."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def run_script(script: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As Slurm would on the first node: with a job id, from anywhere."""
    return subprocess.run(
        ["bash", script],
        cwd=cwd,
        env={**os.environ, "SLURM_JOB_ID": "4242"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def directives(script: str) -> list[str]:
    """Its `#SBATCH` lines."""
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]


def test_the_script_runs_the_workflow_and_returns_its_status(tmp_path: Path) -> None:
    (tmp_path / "wf.yaml").write_text(LOCAL)
    text = "it's $HOME\n\"`x`\\"
    made = sflow_ctl("batch", "wf.yaml", *OPTIONS, "-s", f"SAY={text}", "-o", "jobs/demo.sh", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    script = tmp_path / "jobs" / "demo.sh"
    assert script.stat().st_mode & stat.S_IXUSR
    assert (tmp_path / "jobs" / "demo.yaml").read_text().startswith('version: "0.1"')
    ran = run_script(script, Path("/"))
    assert ran.returncode == 0, ran.stderr
    (directory,) = (tmp_path / "sflow_output").glob("4242-demo-*")
    assert (directory / "a" / "a.log").read_text() == f"said <{text}>\n"

    sflow_ctl("batch", "wf.yaml", *OPTIONS, "-s", "STATUS=7", "-o", "jobs/demo.sh", cwd=tmp_path)
    assert run_script(script, Path("/")).returncode == 1


def test_a_signal_to_the_script_stops_the_run_in_order(tmp_path: Path) -> None:
    (tmp_path / "wf.yaml").write_text(LOCAL.replace("exit $STATUS", "exec sleep 600"))
    sflow_ctl("batch", "wf.yaml", *OPTIONS, "-o", "x.sh", cwd=tmp_path)
    script = subprocess.Popen(
        ["bash", tmp_path / "x.sh"],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(
            lambda: any("said" in log.read_text() for log in tmp_path.glob("sflow_output/*/a/a.log")),
            "the task runs",
        )
        script.terminate()  # only this process, as `scancel --batch` does
        output, _ = script.communicate(timeout=60)
    finally:
        if script.poll() is None:
            script.kill()
            script.communicate()
    assert script.returncode == 143, output
    (directory,) = tmp_path.glob("sflow_output/demo-*")
    assert (directory / ".sflow/summary.json").exists()


def test_a_module_in_the_workspace_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "wf.yaml").write_text(LOCAL)
    (tmp_path / "protocol.py").write_text("raise SystemExit(99)")
    sflow_ctl(
        "batch", "../wf.yaml", *OPTIONS, "-o", "x.sh", "--workspace-dir", "..", cwd=_made(tmp_path / "sub")
    )
    assert run_script(tmp_path / "sub" / "x.sh", Path("/")).returncode == 0


def _made(path: Path) -> Path:
    path.mkdir()
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(TEXTS, max_size=4))
def test_bash_reads_any_text_as_it_was_meant(values: list[str], tmp_path: Path) -> None:
    job = BatchJob(
        name="n",
        argv=("printf", "%s\\0", *values),
        workspace_dir="/",
        stdout="o",
        stderr="e",
        partition="p",
        account="a",
        nodes=1,
    )
    script = tmp_path / "script"
    script.write_text(batch_script(job, "a test"), newline="")
    done = subprocess.run(["bash", script], capture_output=True, check=True, stdin=subprocess.DEVNULL)
    assert done.stdout.decode().split("\0")[:-1] == (values or [""])


def test_the_backend_gives_the_jobs_request_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "dict.yaml").write_text(SLURM)
    (tmp_path / "list.yaml").write_text(SLURM.replace("pool: {type", "- {name: pool, type"))
    for name in ("dict.yaml", "list.yaml"):
        made = sflow_ctl("batch", name, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        assert directives(made.stdout) == [
            "--job-name=sflow",
            f"--output={tmp_path}/sflow_output/%j-sflow-submit.out",
            f"--error={tmp_path}/sflow_output/%j-sflow-submit.err",
            "--open-mode=append",
            "--mem=0",
            "--partition=gpu",
            "--account=lab",
            "--nodes=2",
            "--time=01:00:00",
        ]
    assert (tmp_path / "sflow_output").is_dir()  # else Slurm could not open the log, and the job would die


def test_hosts_that_the_file_names_may_be_planned_with(tmp_path: Path) -> None:
    named = SLURM.replace(
        "gpus_per_node: 4,", "gpus_per_node: 4, include_nodes: [n7, n8], exclude_nodes: [n9],"
    )
    (tmp_path / "wf.yaml").write_text(named)
    made = sflow_ctl("batch", "wf.yaml", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert directives(made.stdout)[-1] == "--nodelist=n7,n8 --exclude=n9"


def test_an_artifact_need_not_exist_where_the_job_is_submitted(tmp_path: Path) -> None:
    (tmp_path / "wf.yaml").write_text(
        SLURM.replace("workflow:", "artifacts: {M: {uri: fs:///no/such}}\nworkflow:")
    )
    made = sflow_ctl("batch", "wf.yaml", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert 'artifact "M": /no/such does not exist' in made.stderr


def test_options_win_over_the_backend(tmp_path: Path) -> None:
    (tmp_path / "wf.yaml").write_text(SLURM)
    options = "-J j -p p -A a -N 1 -G 8 --time 90m -O logs/%x/%j.out -E err.txt -e --qos=high --headroom 60"
    made = sflow_ctl(
        "batch", "wf.yaml", *options.split(), "--after-ok", "7:8", "-e", "--exclusive", cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    assert directives(made.stdout) == [
        "--job-name=j",
        f"--output={tmp_path}/logs/%x/%j.out",
        f"--error={tmp_path}/err.txt",
        "--open-mode=append",
        "--mem=0",
        "--partition=p",
        "--account=a",
        "--nodes=1",
        "--time=0-01:30:00",
        "--gpus-per-node=8",
        "--dependency=afterok:7:8",
        "--kill-on-invalid-dep=yes",
        "--qos=high",
        "--exclusive",
    ]
    assert "--headroom 60 \\\n" in made.stdout
    assert "--gpus-per-node 8" in made.stdout  # the job plans with what was validated
    assert "make the directory of" in made.stderr  # a directory that Slurm would have to name


def test_lines_of_the_command_line_replace_equal_options_of_the_backend(tmp_path: Path) -> None:
    extra = "extra_args: ['--gres=gpu:8 --exclusive', '--qos=low']"
    (tmp_path / "w.yaml").write_text(SLURM.replace('time: "01:00:00"', f'time: "01:00:00", {extra}'))
    options = (
        "-e",
        "--gres=gpu:${{ variables.NODES * 2 }}",
        "-e",
        "--comment='a b'",
        "--extra-docker-args",
        "--init",
    )
    done = sflow_ctl("batch", "w.yaml", "-o", "job.sh", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    script = (tmp_path / "job.sh").read_text()
    assert directives(script)[-3:] == ["--exclusive --qos=low", "--gres=gpu:4", "--comment='a b'"]
    assert "--extra-docker-args=--init" in script
    wrong = sflow_ctl("batch", "w.yaml", "-o", "job.sh", "-e", "--gres=${{ NOPE }}", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "NOPE" in wrong.stderr
    assert "-e --gres=${{ NOPE }}" in wrong.stderr


def test_no_script_for_a_workflow_that_cannot_be_planned(tmp_path: Path) -> None:
    (tmp_path / "wf.yaml").write_text(SLURM)
    made = sflow_ctl("batch", "wf.yaml", "-N", "1", "-o", "x.sh", cwd=tmp_path)
    assert made.returncode == 2
    assert "error[gpus-do-not-fit]" in made.stderr
    assert "wf.yaml:8:" in made.stderr
    assert not (tmp_path / "x.sh").exists()
    assert made.stdout == ""


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("-p", "p", "-A", "a"), "error[nodes-unknown]"),
        (("--submit",), "write it with -o FILE"),
        (("--row", "1"), "name the sheet with -b CSV"),
        (("-b", "x.csv", "-B", "."), "exclude each other"),
        (("-b", "x.csv", "-o", "x.sh"), "-o is for one script"),
        (("-b", "x.csv"), "x.csv cannot be read"),
        (("--sflow-version", "v1"), "installs nothing"),
        ((*OPTIONS, "--after-ok", "soon"), '"soon" is neither a job id nor a run'),
        ((*OPTIONS, "--time", "soon"), "must be a time limit"),
        ((*OPTIONS, "-J", "a\nb"), "cannot hold"),
        ((*OPTIONS, "-e", "--x\ny"), "cannot hold"),
        ((*OPTIONS, "-s", "NOPE=1"), "error[override-unknown]"),
    ],
)
def test_impossible_requests_are_reported(tmp_path: Path, words: tuple[str, ...], what: str) -> None:
    (tmp_path / "sflow.yaml").write_text(LOCAL)
    done = sflow_ctl("batch", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert what in done.stderr, done.stderr
    assert done.stdout == ""


def test_partition_and_account_are_found_by_asking_slurm(tmp_path: Path) -> None:
    (tmp_path / "sflow.yaml").write_text(LOCAL)
    env = stand_in(tmp_path / "bin", "sinfo", "printf 'first\\nusual*\\n'")
    stand_in(tmp_path / "bin", "sacctmgr", "printf '\\nlab\\nother\\n'")
    made = sflow_ctl("batch", "-N", "1", cwd=tmp_path, env=env)
    assert {"--partition=usual", "--account=lab"} <= set(directives(made.stdout))
    assert "partition usual was found by asking Slurm" in made.stderr
    stand_in(tmp_path / "bin", "sinfo", "exit 1")
    refused = sflow_ctl("batch", "-N", "1", cwd=tmp_path, env=env)
    assert refused.returncode == 2
    assert "name one with -p" in refused.stderr


def test_submit_prints_the_job_id_and_log(tmp_path: Path) -> None:
    folder = tmp_path / "50% done"
    folder.mkdir()
    (folder / "sflow.yaml").write_text(LOCAL)
    env = stand_in(tmp_path / "bin", "sbatch", f'echo "$@" > {tmp_path}/called; echo "4242;cluster"')
    done = sflow_ctl("batch", *OPTIONS, "-o", "x.sh", "--submit", cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    called = (tmp_path / "called").read_text()
    assert called.startswith("--parsable --job-name=")
    assert called.endswith(f" {folder}/x.sh\n")
    # Public report 6: SBATCH_... variables win over lines of a script, and not over the command line.
    assert " --partition=part --account=acc " in called
    assert "✓ Submitted job 4242\n" in done.stdout
    assert f"Log:    {folder}/sflow_output/4242-sflow-submit.out\n" in done.stdout
    assert f"Attach: sflow-ctl attach '{folder}/sflow_output'/4242-*\n" in done.stdout
    assert (
        f'--output="{tmp_path}/50%% done/sflow_output/%j-sflow-submit.out"' in (folder / "x.sh").read_text()
    )
    assert (folder / "sflow_output").is_dir()


def test_public_21_a_queued_job_runs_the_workflow_as_it_was(tmp_path: Path) -> None:
    workflow = tmp_path / "sflow.yaml"
    workflow.write_text(LOCAL)
    done = sflow_ctl("batch", *OPTIONS, "-s", "SAY=first", "-o", "x.sh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    workflow.write_text(LOCAL.replace("hello", "second"))
    ran = run_script(tmp_path / "x.sh", tmp_path)
    assert ran.returncode == 0
    assert "said <first>" in ran.stdout


def test_public_21_a_pipe_is_stored_or_refused(tmp_path: Path) -> None:
    (tmp_path / "sflow.yaml").write_text(LOCAL)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for options, status in ((("-o", "x.sh"), 0), ((), 2)):
        with subprocess.Popen(["sh", "-c", f"cat sflow.yaml > {pipe}"], cwd=tmp_path) as writer:
            done = sflow_ctl("batch", str(pipe), *OPTIONS, *options, cwd=tmp_path)
            assert writer.wait(10) == 0
        assert done.returncode == status, done.stderr
    assert "write the script with -o FILE" in done.stderr
    assert "said <hello>" in run_script(tmp_path / "x.sh", tmp_path).stdout


def test_a_refusal_of_sbatch_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "sflow.yaml").write_text(LOCAL)
    env = stand_in(tmp_path / "bin", "sbatch", "echo 'invalid partition' >&2; exit 1")
    done = sflow_ctl("batch", *OPTIONS, "-o", "x.sh", "--submit", cwd=tmp_path, env=env)
    assert done.returncode == 3
    assert "sbatch refused the job: invalid partition" in done.stderr


def test_the_workflow_itself_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text(LOCAL)
    done = sflow_ctl("batch", "demo.yaml", *OPTIONS, "-s", "SAY=x", "-o", "demo.sh", cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "demo.yaml").read_text() == LOCAL
    assert "value: x" in (tmp_path / "demo.composed.yaml").read_text()


def test_another_installation_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "sflow.yaml").write_text(LOCAL)
    made = sflow_ctl("batch", *OPTIONS, "-v", "there", cwd=tmp_path)
    assert f"exec {tmp_path}/there/.sflow_venv/bin/sflow-ctl run" in made.stdout
    assert "does not exist here" in made.stderr


def test_missable_tasks_need_no_second_file(tmp_path: Path) -> None:
    text = LOCAL.replace("{name: a,", "{name: a, depends_on: [gone],")
    (tmp_path / "sflow.yaml").write_text(text)
    assert sflow_ctl("batch", *OPTIONS, cwd=tmp_path).returncode == 2
    made = sflow_ctl("batch", *OPTIONS, "-M", "go*", cwd=tmp_path)
    assert made.returncode == 0
    assert "--missable-tasks 'go*'" in made.stdout

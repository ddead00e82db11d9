"""Agents that Slurm does not start, starts late, wrongly, or without some: F1 to F6, F10, F11, F16, F53, F66."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults import fake_srun
from tests.faults.fake_slurm import FakeSlurm
from tests.support import PATIENCE_S, ROOT, Run, is_alive, lines_with, nothing_left, parent_of, wait_until

HELLO = "    - {name: t, script: ['echo $SLURMD_NODENAME']}\n"
BUSY = "Job 4711 step creation temporarily disabled, retrying (Requested nodes are busy)"
PATCHED = """
import importlib, sys
for assignment in sys.argv.pop(1).split():
    name, value = assignment.split("=")
    module, constant = name.rsplit(".", 1)
    setattr(importlib.import_module("sflow_ctl.runtime." + module), constant, float(value))
from sflow_ctl.cli.program import main
main()
"""


def start(
    slurm: FakeSlurm,
    tasks: str,
    *options: str,
    env: Mapping[str, str] | None = None,
    constants: str = "",
) -> "subprocess.Popen[str]":
    """A run in the job, over the loopback. `constants` of `sflow_ctl.runtime` are others: `fleet.registration.SAY_AFTER_S=1`."""
    folder = slurm.directory.parent
    (folder / "r.yaml").write_text(slurm.workflow(tasks))
    program = [sys.executable, "-c", PATCHED, constants] if constants else [sys.executable, "-m", "sflow_ctl"]
    return subprocess.Popen(
        [*program, "run", "r.yaml", "--run-id", "r", "--interface", "lo", *options],
        cwd=folder,
        env={**os.environ, **slurm.environment(env)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """(exit status, all output) once it has ended."""
    try:
        output, _ = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output


def run(slurm: FakeSlurm, tasks: str, *options: str, **others: Any) -> tuple[int, str]:
    """(exit status, all output) of a run in the job."""
    return finish(start(slurm, tasks, *options, **others))


def log(slurm: FakeSlurm, task: str = "t") -> str:
    """Return the output of the task."""
    return (slurm.directory.parent / "sflow_output" / "r" / task / f"{task}.log").read_text()


def test_f01_a_step_that_waits_is_quoted_and_gets_a_hint(tmp_path: Path) -> None:
    go = tmp_path / "go"
    slurm = FakeSlurm(tmp_path, says=(BUSY,), awaits=str(go), says_then=("Step created for StepId=4711.0",))
    process = start(
        slurm, HELLO, constants="fleet.registration.SAY_AFTER_S=0.2 fleet.registration.HINT_AFTER_S=1"
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "hint:" in line:
            go.touch()
            break
    assert "waiting for 2 of 2 agents since 0 s: node0, node1" in said
    assert f"  srun: {BUSY}\n" in said
    assert "--overlap and --mem=0" in said
    status, rest = finish(process)
    assert status == 0, said + rest
    assert sorted(log(slurm).splitlines()) == ["0: node0", "1: node1"]
    assert len(slurm.calls()) == 1


def test_f01_the_output_of_srun_is_not_parsed(tmp_path: Path) -> None:
    lies = (
        "error: node0: task 0: Killed",
        "error: Unable to create step for job 4711: Job/step already completing",
    )
    slurm = FakeSlurm(tmp_path, says=(*lies, "Step created for StepId=99.7", "node7,node8"))
    status, output = run(slurm, HELLO)
    assert status == 0, output
    assert not lines_with(output, "node7")
    assert not lines_with(output, "completing")


def test_f02_an_srun_that_never_returns_ends_at_the_deadline(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path, says=("error: something is slow",), hangs=True)
    status, output = run(slurm, HELLO, "--join-within", "1")
    assert status == 3, output
    assert "error[agents-missing]: 2 of 2 agents have not reported within 1 s: node0, node1" in output
    assert "srun: error: something is slow" in output
    assert not (tmp_path / "sflow_output" / "r").exists()


def test_f02_an_srun_that_fails_ends_the_run_at_once(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path, says=("error: Unable to create step: Zero Bytes were transmitted",), exits=1)
    status, output = run(slurm, HELLO, "--join-within", "10m")
    assert status == 3
    assert "error[agents-missing]: 2 of 2 agents have not reported: node0, node1" in output
    assert "(srun) ended with 1: srun: error: Unable to create step: Zero Bytes were transmitted" in output
    assert "srun --overlap hostname" in output


def test_p12_srun_is_quoted_without_noise(tmp_path: Path) -> None:
    noise = "cluster configuration lacks support for cpu binding"
    slurm = FakeSlurm(tmp_path, says=(noise, "error: Unable to create step: nodes are gone"), exits=1)
    status, output = run(slurm, HELLO, "--join-within", "10m")
    assert status == 3
    assert "(srun) ended with 1: srun: error: Unable to create step: nodes are gone" in output
    assert noise not in output


def test_f03_agents_that_are_pinned_to_a_cpu_are_a_warning(tmp_path: Path) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("all agents have one CPU here")
    pin = ("taskset", "-c", str(cpus[0]))
    slurm = FakeSlurm(tmp_path, before=pin, environment={"SLURM_CPUS_ON_NODE": "64"})
    until_warned = (
        'until grep -q "CPUs that the job" $SFLOW_WORKFLOW_OUTPUT_DIR/sflow.log; do sleep 0.05; done'
    )
    status, output = run(slurm, f"    - {{name: t, timeout: 30, script: ['{until_warned}']}}\n")
    assert status == 0, output
    (warning,) = lines_with(
        output, "warning: tasks on node0, node1 may run on 1 of the 64 CPUs that the job has"
    )
    assert "remove SLURM_CPU_BIND, taskset around" in warning
    assert "--exclusive" in warning


def test_f04_settings_of_the_job_neither_reach_srun_nor_conflict(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    inherited = dict.fromkeys(fake_srun.OPTIONS_IN_ENVIRONMENT, "3")
    status, output = run(slurm, HELLO, "--no-kill", env={**inherited, "SLURM_GPUS_ON_NODE": "4"})
    assert status == 0, output
    assert "--gres=gpu:4" in slurm.calls()[0]


@pytest.mark.parametrize("name", fake_srun.OPTIONS_IN_ENVIRONMENT)
def test_f04_the_fake_is_strict(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fake_srun.wrong_call(["--overlap", "--mem=0"], {}) is None
    assert fake_srun.wrong_call(["--mem", "0"], {}) is not None
    monkeypatch.setenv(name, "1")
    assert fake_srun.wrong_call(["--overlap"], {}) is not None


def test_f05_the_end_of_one_agent_is_not_that_of_the_others(tmp_path: Path) -> None:
    go = tmp_path / "go"
    slurm = FakeSlurm(tmp_path)
    tasks = (
        "    - {name: t, operator: one, replicas: {count: 2}, on_failure: continue, on_node_lost: fail, "
        f"resources: {{nodes: {{count: 1}}}}, script: ['until [ -e {go} ]; do sleep 0.05; done; echo done']}}\n"
    )
    options = ("--interface", "lo", "--no-kill", "--lost-after", "2")
    running = Run.start(slurm.workflow(tasks), tmp_path, *options, env=slurm.environment())
    try:
        running.wait_for("t_0", "running")
        running.wait_for("t_1", "running")
        agent = running.agents()[1]
        for pid in (parent_of(agent), agent):
            os.kill(pid, signal.SIGKILL)
        running.wait_for("t_1", "lost")
        wait_until(lambda: not is_alive(agent), "the agent is gone")
        go.touch()
        status, output = running.finish()
        assert status == 0, output
        assert running.states() == {"t_0": "completed", "t_1": "lost"}
        nothing_left(running)
    finally:
        running.kill()


@pytest.mark.parametrize(
    "options", [["--wait=1", "--kill-on-bad-exit=0"], ["--wait=0", "--kill-on-bad-exit=1"]]
)
def test_f05_without_the_flags_all_would_end(tmp_path: Path, options: list[str]) -> None:
    slurm = FakeSlurm(tmp_path)
    script = "[ $SLURM_PROCID = 0 ] && exit 1; exec sleep 300"
    done = subprocess.run(
        ["srun", "--nodes=2", "--ntasks=2", *options, "sh", "-c", script],
        env=slurm.environment(), timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGKILL


def test_f06_a_node_without_an_agent_is_named(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path, nodes=("node0", "node1", "node2"), skips=("node1",))
    status, output = run(slurm, HELLO, "--join-within", "3")
    assert status == 3, output
    assert "error[agents-missing]: 1 of 3 agents have not reported within 3 s: node1\n" in output
    assert "--min-nodes" in output


def test_f06_so_many_nodes_are_enough(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path, nodes=("node0", "node1", "node2"), skips=("node1",))
    tasks = (
        "    - {name: t, operator: one, replicas: {count: 4}, resources: {nodes: {count: 1}}, "
        "script: ['echo $SLURMD_NODENAME']}\n"
    )
    status, output = run(slurm, tasks, "--join-within", "4", "--min-nodes", "2")
    assert status == 0, output
    assert {log(slurm, f"t_{n}") for n in range(4)} == {"node0\n", "node2\n"}


@pytest.mark.parametrize("how", ["hang", "fail", "are missing"])
def test_f10_a_run_continues_when_slurms_commands_do_not_answer(tmp_path: Path, how: str) -> None:
    slurm = FakeSlurm(tmp_path)
    if how == "are missing":
        slurm.without("scontrol", "squeue")
    for name in ("scontrol", "squeue") if how != "are missing" else ():
        # As a wrapper does it: what it has started outlives it, and holds its output.
        hanging = f"sleep 300 & echo $! >> {tmp_path}/hanging; wait"
        slurm.command(name, hanging if how == "hang" else "echo down >&2; exit 1")
    status, output = run(
        slurm, HELLO, constants="slurm.allocation.ASK_WITHIN_S=0.3 slurm.allocation.WHY_WITHIN_S=0.3"
    )
    assert status == 0, output
    assert sorted(log(slurm).splitlines()) == ["0: node0", "1: node1"]
    assert len(lines_with(output, "warning: squeue does not show when the job's time ends")) == 1
    if how == "hang":
        left = [int(word) for word in (tmp_path / "hanging").read_text().split()]
        assert left, "a command that hangs was asked"
        assert not any(map(is_alive, left))


def test_f10_a_failure_is_reported_when_slurm_gives_no_reason(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    slurm.command("scontrol", "sleep 300")
    tasks = "    - {name: t, operator: one, script: ['kill -TERM $$; sleep 1']}\n"
    status, output = run(
        slurm, tasks, constants="slurm.allocation.ASK_WITHIN_S=0.3 slurm.allocation.WHY_WITHIN_S=0.3"
    )
    assert status == 1
    assert lines_with(output, "t", "SIGTERM"), output


REFUSED = "error: Unable to create step for job 4711: Invalid generic resource (gres) specification"


def test_f11_a_refused_gpu_option_names_the_setting(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path, refuses={"--gres": REFUSED})
    status, output = run(slurm, HELLO, env={"SLURM_GPUS_ON_NODE": "4"})
    assert status == 3
    assert f"srun: {REFUSED}" in output
    (hint,) = lines_with(output, "hint:")
    assert "`step_gres: false`" in hint


def test_f11_with_the_setting_the_run_begins(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path, refuses={"--gres": REFUSED})
    site = tmp_path / "site.yaml"
    site.write_text("step_gres: false\n")
    status, output = run(slurm, HELLO, env={"SLURM_GPUS_ON_NODE": "4", "SFLOW_SITE_FILE": str(site)})
    assert status == 0, output


def test_f15_nodes_with_the_same_name_and_address_are_distinguished(tmp_path: Path) -> None:
    """All of this job's are this machine: only Slurm's name of the node says which an agent is."""
    slurm = FakeSlurm(tmp_path, nodes=("c", "a", "b"))
    status, output = run(slurm, "    - {name: t, script: ['echo $SLURM_NODEID $SLURMD_NODENAME']}\n")
    assert status == 0, output
    assert sorted(log(slurm).splitlines()) == ["0: 0 c", "1: 1 a", "2: 2 b"]


def test_f16_hostname_is_never_asked(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    slurm.command("hostname", f"echo asked >> {tmp_path}/asked\necho 10.9.9.9 fe80::1%ib0 172.17.0.1")
    status, output = run(slurm, "    - {name: t, script: ['echo ${{ task.t.nodes[0].ip_address }}']}\n")
    assert status == 0, output
    assert not (tmp_path / "asked").exists()
    assert log(slurm).splitlines()[0].split()[1] in ("127.0.0.1", "::1")


def test_f53_tasks_see_nothing_of_the_agents_step(tmp_path: Path) -> None:
    of_the_step = {
        "PMI_SIZE": "2", "PMIX_RANK": "1", "OMPI_COMM_WORLD_RANK": "1", "PRTE_X": "1", "MPI_LOCALRANKID": "0",
        "SLURM_CPU_BIND": "quiet,mask_cpu:0x1", "SLURM_CPU_BIND_LIST": "0x1", "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1", "SLURM_SRUN_COMM_PORT": "1", "SLURM_GTIDS": "1", "SLURM_TASK_PID": "7",
        "SLURM_UMASK": "0022", "SLURM_DISTRIBUTION": "block", "SLURM_TRES_PER_TASK": "cpu=1",
    }  # fmt: skip
    slurm = FakeSlurm(tmp_path, nodes=("node0",), environment={**of_the_step, "KEPT": "1"})
    status, output = run(slurm, "    - {name: t, operator: one, script: ['env']}\n", env=of_the_step)
    assert status == 0, output
    seen = dict(line.partition("=")[::2] for line in log(slurm).splitlines())
    assert seen["KEPT"] == "1"
    assert seen["SLURM_JOB_ID"] == "4711"
    assert seen["SLURM_PROCID"] == "0"
    ours = {
        "SLURM_STEP_NODELIST",
        "SLURM_STEP_NUM_NODES",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_STEP_TASKS_PER_NODE",
    }
    left = {name for name in (*of_the_step, "PMI_RANK", "PMIX_NAMESPACE", "SLURM_STEP_ID") if name in seen}
    assert left <= ours, left
    assert seen.get("SLURM_STEP_NUM_TASKS") == "1"
    assert not [name for name in seen if name.startswith("SFLOW_AGENT")]


OTHER_VERSION = """
import runpy, sys
import protocol.session.version
protocol.session.version.PROTOCOL_VERSION = tuple(map(int, sys.argv[1].split(".")))
sys.argv = ["sflow_agent"]
runpy.run_module("sflow_agent", run_name="__main__")
"""


def of_version(version: str) -> tuple[str, ...]:
    """Return an srun that starts an agent of another protocol version."""
    return (sys.executable, "-I", "-c", OTHER_VERSION, version)


def test_f66_an_agent_of_another_major_version_is_refused_and_both_are_named(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path, nodes=("node0",), before=of_version("99.0"))
    status, output = run(slurm, HELLO)
    assert status == 3
    assert f"node node0: the controller speaks protocol 1.0 ({ROOT}), the agent 99.0 ({ROOT})" in output
    assert "install one version everywhere" in output


def test_f66_an_agent_of_another_minor_version_is_accepted(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path, before=of_version("1.99"))
    status, output = run(slurm, HELLO)
    assert status == 0, output


def test_f66_an_interpreter_without_this_installation_is_named(tmp_path: Path) -> None:
    other = Path(sys.executable).resolve()
    if other == Path(sys.executable):
        pytest.skip("not in a virtual environment: the interpreter beneath it would do")
    slurm = FakeSlurm(tmp_path, nodes=("node0",))
    site = tmp_path / "site.yaml"
    site.write_text(f"python: {other}\n")
    status, output = run(slurm, HELLO, env={"SFLOW_SITE_FILE": str(site)})
    assert status == 3
    assert f"{other}: No module named sflow_agent" in output
    assert "on every node, at the same path" in output

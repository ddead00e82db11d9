"""Tasks over SSH, with a real server: what arrives there, how it ends, and that nothing is left of it."""

import os
import secrets
import signal
from pathlib import Path

import pytest

from tests.integration.operators.sshd import Sshd
from tests.support import Run, is_alive, nothing_left, parent_of, wait_until

VALUE = "a 'b' \"c\"\nd $x `e` ü \\ é"


def workflow(sshd: Sshd, script: str, more: str = "") -> str:
    """One task, which runs over SSH."""
    lines = "\n".join(f"        {line}" for line in script.splitlines())
    return f"""
version: "0.1"
variables:
  TEXT: "a 'b' \\"c\\"\\nd $x `e` ü \\\\ é"
operators: {{far: {{{sshd.operator}}}}}
workflow:
  name: w
  tasks:
    - name: a
      operator: far
      script:
      - |
{lines}
{more}"""


def start(started: list[Run], tmp_path: Path, text: str) -> Run:
    run = Run.start(text, tmp_path)
    started.append(run)
    return run


def log_of(run: Run) -> str:
    log = run.directory / "a" / "a.log"
    return log.read_text() if log.exists() else ""


def up(run: Run) -> None:
    """Wait until the task's script has printed that it runs."""
    wait_until(lambda: "up\n" in log_of(run), "the task runs")


def with_variable(name: str, value: str) -> list[int]:
    """Processes that were started with this variable, here or "over there"."""
    wanted = f"{name}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if is_alive(pid)]


def arguments_with(text: str) -> list[int]:
    """Processes with this text in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_environment_output_and_status_arrive(sshd: Sshd, started: list[Run], tmp_path: Path) -> None:
    script = """
printf '%s|' "$TEXT"; echo; echo $SFLOW_TASK_NAME $SFLOW_ATTEMPT
[ -t 0 ] || read nothing || echo no input
shopt -q login_shell && echo login
echo one; echo two >&2; echo three
set -- none; trap 'echo at the end' EXIT
exit 7"""
    run = start(started, tmp_path, workflow(sshd, script))
    assert run.finish()[0] == 1
    assert log_of(run) == f"{VALUE}|\na 1\nno input\nlogin\none\ntwo\nthree\nat the end\n"
    assert run.summary().tasks[0].exit_code == 7


def test_slurms_variables_of_the_tasks_own_geometry_arrive(
    sshd: Sshd, started: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those that the agent itself finds: they are about its job step, or about somebody else's."""
    monkeypatch.setenv("SLURM_NTASKS", "64")
    monkeypatch.setenv("SLURM_STEP_ID", "3")
    monkeypatch.setenv("SLURM_JOB_PARTITION", "here")
    backends = (
        "backends: {pool: {type: slurm, account: a, partition: p, time: 10, nodes: 2, gpus_per_node: 1}}\n"
    )
    script = "env | grep ^SLURM | sort"
    run = Run.start(
        workflow(sshd, script).replace("operators:", f"{backends}operators:"), tmp_path, "--nodes", "2"
    )
    started.append(run)
    assert run.finish()[0] == 0
    expected = """SLURMD_NODENAME=localhost
SLURM_LOCALID=0
SLURM_NNODES=1
SLURM_NODEID=0
SLURM_NPROCS=1
SLURM_NTASKS=1
SLURM_PROCID=0
SLURM_STEP_NODELIST=localhost
SLURM_STEP_NUM_NODES=1
SLURM_STEP_NUM_TASKS=1
SLURM_STEP_TASKS_PER_NODE=1
SLURM_TASKS_PER_NODE=1
"""
    assert sorted(log_of(run).splitlines()) == sorted(expected.splitlines())


def test_a_local_task_takes_nothing_of_slurm_over(
    sshd: Sshd, started: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "64")
    run = start(started, tmp_path, workflow(sshd, "env | grep ^SLURM || echo none"))
    assert run.finish()[0] == 0
    assert log_of(run) == "none\n"


def test_no_command_line_shows_the_environment(sshd: Sshd, started: list[Run], tmp_path: Path) -> None:
    secret = secrets.token_hex(16)
    text = workflow(sshd, "echo up; sleep 600").replace("variables:\n", f"variables:\n  SECRET: {secret}\n")
    run = start(started, tmp_path, text)
    up(run)
    assert with_variable("SECRET", secret), "it is in the environment of the remote script"
    assert arguments_with(secret) == []
    run.process.send_signal(signal.SIGINT)
    run.finish()


def test_a_large_script_arrives(sshd: Sshd, started: list[Run], tmp_path: Path) -> None:
    """Larger than a pipe holds."""
    filling = "\n".join(f": {'x' * 90}" for _ in range(1000))
    run = start(started, tmp_path, workflow(sshd, f"{filling}\necho the end"))
    assert run.finish()[0] == 0
    assert log_of(run) == "the end\n"


def test_cancel_lets_the_remote_script_end_itself(sshd: Sshd, started: list[Run], tmp_path: Path) -> None:
    run = start(
        started, tmp_path, workflow(sshd, "trap 'echo got it; exit 3' TERM; echo up; sleep 600 & wait")
    )
    up(run)
    run.process.send_signal(signal.SIGINT)
    run.finish()
    assert run.summary().tasks[0].exit_code == 3
    assert "got it\n" in log_of(run)


def test_cancel_ends_the_remote_tree_that_ignores_sigterm(
    sshd: Sshd, started: list[Run], tmp_path: Path
) -> None:
    mark = secrets.token_hex(8)
    script = f"""
export MARK={mark}
trap '' TERM
(setsid bash -c 'while :; do sleep 600; done' &)
bash -c 'echo up; while :; do sleep 600; done'"""
    run = start(started, tmp_path, workflow(sshd, script))
    up(run)
    assert len(with_variable("MARK", mark)) >= 2
    run.process.send_signal(signal.SIGINT)
    run.finish()
    assert with_variable("MARK", mark) == []
    nothing_left(run)


def test_processes_that_a_script_leaves_behind_are_ended(
    sshd: Sshd, started: list[Run], tmp_path: Path
) -> None:
    mark = secrets.token_hex(8)
    run = start(
        started, tmp_path, workflow(sshd, f"export MARK={mark}; setsid sleep 600 & echo done; exit 0")
    )
    assert run.finish()[0] == 0
    assert log_of(run) == "done\n"
    assert with_variable("MARK", mark) == []


DAEMONS = """
env -i setsid -f sleep NUMBER >/dev/null 2>&1 </dev/null
(setsid bash -c 'exec env -i sleep NUMBER' >/dev/null 2>&1 &)
"""
"""Processes with a session of their own and without any variable."""


def sleeping(number: str) -> list[int]:
    return [pid for pid in arguments_with(f"sleep\0{number}") if is_alive(pid)]


@pytest.mark.parametrize("ending", ["exit 0", "exec sleep 600"])
def test_n4_remote_processes_that_have_wiped_their_environment_are_ended(
    sshd: Sshd, started: list[Run], tmp_path: Path, ending: str
) -> None:
    number = str(10**8 + secrets.randbelow(10**8))
    run = start(
        started, tmp_path, workflow(sshd, f"{DAEMONS.replace('NUMBER', number)}sleep 0.3; echo up; {ending}")
    )
    up(run)
    if "600" in ending:
        wait_until(lambda: len(sleeping(number)) == 2, "both daemons run")
        run.process.send_signal(signal.SIGINT)
    run.finish()
    assert sleeping(number) == []


def test_n4_a_run_that_is_killed_as_a_whole_leaves_nothing_elsewhere(
    sshd: Sshd, started: list[Run], tmp_path: Path
) -> None:
    number = str(10**8 + secrets.randbelow(10**8))
    script = f"{DAEMONS.replace('NUMBER', number)}sleep 0.3; echo up; exec sleep {number}"
    run = start(started, tmp_path, workflow(sshd, script))
    up(run)
    run.kill_all(spares_keeper=True)
    wait_until(lambda: sleeping(number) == [], "the remote processes have ended", within_s=15)


def test_n4_what_a_killed_supervisor_leaves_is_ended(sshd: Sshd, started: list[Run], tmp_path: Path) -> None:
    number = str(10**8 + secrets.randbelow(10**8))
    script = f"{DAEMONS.replace('NUMBER', number)}sleep 0.3; echo up; exec sleep {number}"
    run = start(started, tmp_path, workflow(sshd, script))
    up(run)
    (main,) = set(sleeping(number)) & set(with_variable("SFLOW_TASK_NAME", "a"))
    os.kill(parent_of(main), signal.SIGKILL)
    run.process.send_signal(signal.SIGINT)
    run.finish()
    wait_until(lambda: sleeping(number) == [], "the remote processes have ended", within_s=15)


def test_a_killed_client_ends_the_remote_tree(sshd: Sshd, started: list[Run], tmp_path: Path) -> None:
    """As at the end of every grace: there is nobody left to say that it must stop."""
    mark = secrets.token_hex(8)
    run = start(
        started,
        tmp_path,
        workflow(
            sshd, f"export MARK={mark}; trap '' TERM; echo up; sleep 600; :", "      on_node_lost: fail\n"
        ),
    )
    up(run)
    (agent,) = run.agents()
    os.kill(agent, signal.SIGKILL)
    run.finish()
    wait_until(lambda: not with_variable("MARK", mark), "the remote script has ended", within_s=15)


def test_a_lost_connection_is_a_reported_failure(sshd: Sshd, started: list[Run], tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    run = start(started, tmp_path, workflow(sshd, f"export MARK={mark}; echo up; sleep 600; :"))
    up(run)
    (connection,) = sshd.connections()
    os.kill(connection, signal.SIGKILL)
    assert run.finish()[0] == 1
    assert run.summary().tasks[0].exit_code == 255
    assert "no connection to" in log_of(run)
    assert "or it was lost" in log_of(run)
    wait_until(lambda: not with_variable("MARK", mark), "the remote script has ended", within_s=15)


def test_a_host_that_does_not_answer_is_a_reported_failure(
    sshd: Sshd, started: list[Run], tmp_path: Path
) -> None:
    text = workflow(sshd, "echo up").replace(f"port: {sshd.port}", "port: 1")
    run = start(started, tmp_path, text)
    assert run.finish()[0] == 1
    assert "Connection refused" in log_of(run)
    assert "no connection to" in log_of(run)


def test_strict_ends_at_the_first_failure(sshd: Sshd, started: list[Run], tmp_path: Path) -> None:
    text = workflow(sshd, "echo one\nfalse | true\necho two").replace(
        "{type: ssh", "{strict: true, type: ssh"
    )
    run = start(started, tmp_path, text)
    assert run.finish()[0] == 1
    assert log_of(run) == "one\n"


def test_an_environment_is_set_up_on_the_other_machine(
    sshd: Sshd, started: list[Run], tmp_path: Path
) -> None:
    (tmp_path / "env.sh").write_text("export A=${SSH_CONNECTION:+there}\n")
    environments = f'environments: {{e: {{source: {tmp_path}/env.sh, env: {{B: "it\'s b"}}, before: ["export C=$A-$B"]}}}}\n'
    text = workflow(sshd, 'echo "$C"').replace(
        "workflow:\n", f"{environments}workflow:\n  environment: e\n", 1
    )
    run = start(started, tmp_path, text)
    assert run.finish()[0] == 0, log_of(run)
    assert log_of(run).splitlines()[-1] == "there-it's b"
    (tmp_path / "env.sh").write_text("echo broken >&2; false\n")
    again = Run.start(text, tmp_path, run_id="again")
    started.append(again)
    assert again.finish()[0] == 1
    task = again.summary().tasks[0]
    assert task.reason_word == "bootstrap", task.reason
    assert "broken" in (again.directory / "a" / "a.log").read_text()

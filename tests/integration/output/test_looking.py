"""attach, status and logs as commands, on a run made of its directory and an output service."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.errors import RunDirectoryError
from sflow_ctl.core.states import FirstCause, Outcome, Reason, TaskState, Transition
from sflow_ctl.plan.model import Placement, Plan, PlannedNode, PlannedTask
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import summary, summary_json
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.record.directory import ConnectionFacts, OperatorFacts, RunDirectory, RunFacts
from sflow_ctl.runtime.record.processes import process_start_ticks
from tests.integration.output.fleet import DEADLINE_S, Controller

S = TaskState
RUN_ID = "wf-20260102-030405-abcdef"


def a_task(name: str, base: str) -> PlannedTask:
    return PlannedTask(
        name=name,
        base=base,
        backend="local",
        operator="bash",
        operator_kind="bash",
        argv=("bash",),
        script="",
        env={},
        placement=Placement(nodes=(0,)),
    )


NODE = PlannedNode(index=0, backend="local", backend_index=0, name="n07", address="127.0.0.1", gpus=None)
PLAN = Plan(
    workflow="wf",
    nodes=(NODE,),
    tasks=(a_task("load", "load"), a_task("decode_0", "decode"), a_task("decode_1", "decode")),
)


class Run:
    """A run's directory and its controller's output, as its controller would have them."""

    def __init__(
        self, root: Path, run_id: str = RUN_ID, pid: int | None = None, host: str | None = None
    ) -> None:
        self.root = root
        self.directory = RunDirectory(root, run_id)
        self.facts = RunFacts(
            run_id=run_id,
            workflow="wf",
            host=host or socket.gethostname(),
            pid=os.getpid() if pid is None else pid,
            pid_started=process_start_ticks(os.getpid()),
            started_wall_ns=time.time_ns(),
            version="0",
            argv=(),
        )
        self.directory.create(PLAN, "", self.facts, "nonce")
        self.path = self.directory.path
        self.state = RunView(PLAN)
        self.controller: Controller | None = None

    def open(self) -> Controller:
        """Takes viewers from now on."""
        self.controller = Controller(self.path)
        keys, clients = self.controller.keys, self.controller.clients
        self.directory.write_connection(
            ConnectionFacts(
                run_id=self.facts.run_id,
                pid=self.facts.pid,
                host=self.facts.host,
                client_endpoints=clients.endpoints,
                controller_key=keys.controller.public,
                viewer_secret=keys.viewer,
            ),
            OperatorFacts(secret=keys.operator),
        )
        return self.controller

    def change(self, task: str, new: TaskState, text: str = "", exit_code: int | None = None) -> None:
        transition = Transition(
            task=task,
            attempt=1,
            old=S.QUEUED,
            new=new,
            reason=Reason("exit", text),
            node=0,
            exit_code=exit_code,
        )
        self.state.apply(transition)
        journal = Journal(self.path / ".sflow/events.jsonl", 1)
        journal.transition(transition, 0.0)
        journal.close()
        if self.controller is not None:
            self.controller.publish(transition)

    def log(self, task: str, text: str) -> None:
        with (self.path / f"{task}/{task}.log").open("a") as file:
            file.write(text)

    def end(self, outcome: Outcome, exit_status: int, cause: FirstCause | None = None) -> None:
        """End as a controller does: connections are refused, viewers are informed, the summary comes last."""
        self.directory.remove_connection()
        if self.controller is not None:
            self.controller.close()
        whole = summary(
            self.state,
            outcome,
            cause,
            run_id=self.facts.run_id,
            exit_status=exit_status,
            started_wall_ns=self.facts.started_wall_ns,
            ended_wall_ns=self.facts.started_wall_ns + 1_500_000_000,
        )
        self.directory.write(".sflow/summary.json", summary_json(whole))


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "sflow_ctl", *words]


def ask(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command that ends by itself."""
    return subprocess.run(
        command(words[0], "--output-dir", str(root), *words[1:]), capture_output=True, text=True, timeout=20
    )


class Command:
    """A command that runs until the run ends."""

    def __init__(self, root: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            command(words[0], "--output-dir", str(root), *words[1:]),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._bytes = b""

    @property
    def shown(self) -> str:
        return self._bytes.decode()

    def read(self) -> None:
        assert self.process.stdout is not None
        self._bytes += self.process.stdout.read() or b""

    def shows(self, *texts: str) -> bool:
        self.read()
        return all(text in self.shown for text in texts)

    def exit_status(self) -> int:
        status = self.process.wait(DEADLINE_S)
        self.read()
        return status


@contextmanager
def following(root: Path, *words: str) -> Iterator[Command]:
    following_command = Command(root, *words)
    try:
        yield following_command
    finally:
        following_command.process.kill()
        following_command.process.wait()
        assert following_command.process.stdout is not None
        following_command.process.stdout.close()


def until_shown(run: Run, watcher: Command, *texts: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not watcher.shows(*texts):
        assert time.monotonic() < deadline, f"{texts} not in:\n{watcher.shown}"
        if run.controller is not None:
            run.controller.turn()
        time.sleep(0.005)


def test_attach_follows_a_run_to_its_end_through_its_controller(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.open()
    run.change("load", S.RUNNING)
    run.log("load", "before\n")
    with following(tmp_path, "attach") as watcher:
        until_shown(run, watcher, "through its controller", "[load] before")
        run.log("load", "live\n")
        until_shown(run, watcher, "[load] live\n")
        run.change("load", S.FAILED, "exit status 3", exit_code=3)
        until_shown(run, watcher, "load failed: exit status 3")
        cause = FirstCause(text="process exited with error: load", task="load", node=0)
        run.end(Outcome.FAILED, 1, cause)
        assert watcher.exit_status() == 1
        assert "the run failed: process exited with error: load" in watcher.shown
        assert "    | live" in watcher.shown
        assert watcher.shown.endswith(f"{RUN_ID}: failed after 1.50 s, exit status 1\n")


def test_f17_attach_uses_the_files_when_the_controller_does_not_answer(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.change("load", S.RUNNING)
    run.log("load", "before\n")
    with following(tmp_path, "attach") as watcher:
        until_shown(run, watcher, "through its files", "[load] before")
        run.log("load", "live\n")
        until_shown(run, watcher, "[load] live\n")
        run.change("decode_0", S.RUNNING)
        run.log("decode_0", "hello\n")
        until_shown(run, watcher, "[decode_0] hello\n")
        run.change("load", S.COMPLETED, exit_code=0)
        run.end(Outcome.COMPLETED, 0)
        assert watcher.exit_status() == 0
        assert watcher.shown.endswith(f"{RUN_ID}: completed after 1.50 s, exit status 0\n")


def test_detaching_is_reported_and_the_run_continues(tmp_path: Path) -> None:
    run = Run(tmp_path)
    controller = run.open()
    run.change("load", S.RUNNING)
    run.log("load", "before\n")
    with following(tmp_path, "attach") as watcher:
        until_shown(run, watcher, "[load] before")
        watcher.process.send_signal(signal.SIGINT)
        assert watcher.exit_status() == 0
        assert watcher.shown.endswith("Detached; the run keeps going.\n")
    run.change("load", S.COMPLETED)
    controller.turn()
    run.end(Outcome.COMPLETED, 0)


def test_status_reports_that_the_controller_of_a_run_died(tmp_path: Path) -> None:
    run = Run(tmp_path, pid=2**22 + 1)
    run.change("load", S.RUNNING)
    answer = ask(tmp_path, "status")
    assert answer.returncode == 0
    assert f"controller pid {2**22 + 1} on {socket.gethostname()} is gone" in answer.stdout
    attached = ask(tmp_path, "attach")
    assert attached.returncode == 3


def test_status_asks_a_controller_on_another_host(tmp_path: Path) -> None:
    run = Run(tmp_path, host="elsewhere")
    (run.path / ".sflow/controller.lock").unlink()
    run.open()
    run.change("load", S.RUNNING)
    with following(tmp_path, "status") as watcher:
        until_shown(run, watcher, "from its controller", "load", "running")
        assert watcher.exit_status() == 0
    run.end(Outcome.COMPLETED, 0)


def test_status_for_programs(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.change("load", S.RUNNING)
    running = json.loads(ask(tmp_path, "status", "--json").stdout)
    assert (running["liveness"], running["outcome"]) == ("running", None)
    assert running["counts"] == {"running": 1, "waiting": 2}
    run.change("load", S.COMPLETED, exit_code=0)
    run.end(Outcome.COMPLETED, 0)
    assert running["started_wall_ns"] > 0
    assert running["ended_wall_ns"] is None
    ended = json.loads(ask(tmp_path, "status", RUN_ID, "--json").stdout)
    assert ended["ended_wall_ns"] > ended["started_wall_ns"] == running["started_wall_ns"]
    assert (ended["liveness"], ended["outcome"], ended["exit_status"]) == ("ended", "completed", 0)
    assert ended["tasks"][0]["exit_code"] == 0


def test_logs_of_one_task_are_its_bytes_and_of_several_have_names(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for task in ("load", "decode_0", "decode_1"):
        run.change(task, S.COMPLETED)
        run.log(task, f"1 {task}\n2 {task}\n")
    run.end(Outcome.COMPLETED, 0)
    assert ask(tmp_path, "logs", "load").stdout == "1 load\n2 load\n"
    assert (
        ask(tmp_path, "logs", "-n", "1", "decode").stdout == "[decode_0] 2 decode_0\n[decode_1] 2 decode_1\n"
    )
    assert ask(tmp_path, "logs", "--run", str(run.path)).stdout.count("\n") == 6


def test_following_a_log_ends_with_its_task(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.open()
    run.change("load", S.RUNNING)
    run.log("load", "one\n")
    with following(tmp_path, "logs", "-f", "load") as watcher:
        until_shown(run, watcher, "one\n")
        run.log("load", "two\n")
        until_shown(run, watcher, "two\n")
        run.change("load", S.COMPLETED)
        deadline = time.monotonic() + DEADLINE_S
        while watcher.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert watcher.exit_status() == 0
        assert watcher.shown == "one\ntwo\n"
    run.end(Outcome.COMPLETED, 0)


def test_a_closed_reader_is_not_an_error(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.log("load", "x\n" * 1_000_000)
    words = " ".join(command("logs", "--output-dir", str(tmp_path), "load"))
    answer = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words} | head -n 1"], capture_output=True, text=True, timeout=20
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "x\n", "")


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("logs", "lood"), "unknown-task", 'did you mean "load"?'),
        (("logs", "decoda"), "unknown-task", 'did you mean "decode"?'),
        (("status", "nope"), "no-such-run", RUN_ID),
        (("status", "./nope"), "no-such-run", "run.json"),
        (("attach", "wf-20"), "ambiguous-run", RUN_ID),
    ],
)
def test_a_wrong_name_gets_the_right_one_and_exit_2(
    tmp_path: Path, words: tuple[str, ...], code: str, hint: str
) -> None:
    Run(tmp_path, "wf-20250101-000000-aaaaaa")
    Run(tmp_path)
    answer = ask(tmp_path, *words)
    assert answer.returncode == 2
    assert f"error[{code}]" in answer.stderr
    assert hint in answer.stderr


def test_without_any_run_the_searched_directory_is_named(tmp_path: Path) -> None:
    answer = ask(tmp_path, "status")
    assert answer.returncode == 2
    assert "error[no-runs]" in answer.stderr


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.open()
    (run.path / ".sflow/connection.json").chmod(0o644)
    answer = ask(tmp_path, "attach")
    assert answer.returncode == RunDirectoryError.exit_status
    assert "error[connection-not-private]" in answer.stderr
    run.end(Outcome.COMPLETED, 0)


def test_a_job_id_names_the_newest_run_of_the_job(tmp_path: Path) -> None:
    Run(tmp_path, "4711-wf-20250101-000000-aaaaaa").end(Outcome.COMPLETED, 0)
    Run(tmp_path, "4711-wf-20250102-000000-bbbbbb").end(Outcome.COMPLETED, 0)
    assert "4711-wf-20250102-000000-bbbbbb: completed" in ask(tmp_path, "status", "4711").stdout

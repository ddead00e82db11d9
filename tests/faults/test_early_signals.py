"""Signals that come before the first task: nothing is left, and the status says which signal it was."""

import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from sflow_ctl.runtime.run import signals
from sflow_ctl.runtime.run.signals import EarlySignals, ReportSignals, SignalInbox, StoppedEarlyError
from tests.faults.fake_slurm import FakeSlurm
from tests.faults.test_slurm_launch import HELLO, finish, start
from tests.support import command, controller_of, is_alive, marked, wait_until


def agents_of(process: "subprocess.Popen[str]") -> list[int]:
    """Return the processes below a run that has not begun."""
    found = [process.pid]
    for pid in found:
        try:
            found += [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            continue
    return found[1:]


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 124)],
)
def test_r32_a_signal_while_agents_muster_leaves_nothing(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    slurm = FakeSlurm(tmp_path, says=("error: something is slow",), hangs=True)
    process = start(slurm, HELLO)
    try:
        nonce = tmp_path / "sflow_output" / ".r.nonce"
        wait_until(lambda: nonce.exists() and agents_of(process), "the step is being started")
        below = agents_of(process)
        os.kill(process.pid, number)
        os.kill(process.pid, number)
        code, output = finish(process)
    finally:
        process.kill()
    assert code == status, output
    assert f"sflow-ctl: stopped by {number.name} before any task was started" in output
    assert not nonce.exists()
    assert list((tmp_path / "sflow_output").iterdir()) == []
    wait_until(lambda: not any(map(is_alive, below)), f"all are gone: {names(below)}", 10)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_r32_a_signal_while_a_workflow_is_read_leaves_nothing(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    os.mkfifo(tmp_path / "w.yaml")
    process = subprocess.Popen(
        command("run", "w.yaml", "--run-id", "early"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: agents_of(process), "the spare agent is there")
    below = agents_of(process)
    wait_until(lambda: waits_for_a_writer(controller_of(process.pid)), "it waits for the file")
    os.kill(process.pid, number)
    code, output = finish(process)
    assert code == status, output
    assert "before any task was started" in output
    wait_until(lambda: not any(map(is_alive, below)), f"all are gone: {names(below)}", 10)
    assert marked("early") == []


def names(pids: list[int]) -> list[str]:
    return [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids if is_alive(pid)]


def waits_for_a_writer(pid: int) -> bool:
    """Return whether a process is within openat(2) of a FIFO without a writer."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] == "257"


def test_ux_02_one_more_key_press_does_not_cost_the_report() -> None:
    printed: list[str] = []

    def report() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        printed.append("the cause")
        os.kill(os.getpid(), signal.SIGINT)
        printed.append("never")

    with ReportSignals(), pytest.raises(KeyboardInterrupt):
        report()
    assert printed == ["the cause"]


@pytest.mark.parametrize(
    ("words", "status"), [(["--version"], 130), (["run", "none.yaml"], 130), (["ps"], 130)]
)
def test_an_interrupt_that_the_import_system_would_lose_ends_the_program(
    tmp_path: Path, words: list[str], status: int
) -> None:
    """Python only prints what a callback of a weak reference raises."""
    program = (
        "import os, sys, weakref\n"
        "class Hook:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'protocol.machine.lean_msgspec':\n"
        "            referent = Hook()\n"
        "            kept = weakref.ref(referent, lambda _: [os.kill(os.getpid(), 2), *map(str, range(9))])\n"
        "            del referent\n"
        f"sys.meta_path.insert(0, Hook()); sys.argv = ['sflow-ctl', *{words!r}]\n"
        "from sflow_ctl.__main__ import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (status, ""), done.stderr


def test_an_interrupt_while_msgspec_is_imported_is_not_ignored() -> None:
    """It imports datetime in C, ignores that this failed, and crashes at its first decoder."""
    program = (
        "import sys\n"
        "class Hook:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'datetime':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Hook())\n"
        "from protocol.machine.lean_msgspec import import_msgspec\n"
        "try:\n"
        "    import_msgspec()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_that_a_callback_has_lost_comes_before_the_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    class Referent:
        pass

    monkeypatch.setattr(signals, "_EARLY_STOPS", [])
    referent = Referent()

    def interrupt(_ref: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    kept = weakref.ref(referent, interrupt)
    with EarlySignals():
        del referent
        assert kept() is None
        with pytest.raises(StoppedEarlyError) as caught, SignalInbox():
            pass
    assert caught.value.status == 143

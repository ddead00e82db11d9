"""`wait`: the status of a run or of tasks, also where the controller or the files are late or gone."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import Run, command, sflow_ctl, wait_until


def answer(cwd: Path, *words: str) -> tuple[int, dict[str, Any]]:
    done = sflow_ctl("wait", "--json", *words, cwd=cwd)
    return done.returncode, json.loads(done.stdout)


def test_ux_04_the_status_of_an_ended_run_and_of_its_tasks(ended: Run, tmp_path: Path) -> None:
    done = sflow_ctl("wait", "ended", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("ended: failed after ")
    assert sflow_ctl("wait", "ended", "good", cwd=tmp_path).returncode == 0
    assert sflow_ctl("wait", "ended", "good", "bad", "after", cwd=tmp_path).returncode == 3
    assert sflow_ctl("wait", "after", cwd=tmp_path).stdout == "after: cancelled, exit status 1\n"
    status, report = answer(tmp_path, "ended", "*d")
    assert status == 3
    assert [(one["task"], one["exit_status"]) for one in report["tasks"]] == [("good", 0), ("bad", 3)]
    assert (report["version"], report["is_met"], report["outcome"]) == (1, True, "failed")


def test_tasks_of_a_live_run_are_waited_for(live: Run, tmp_path: Path) -> None:
    assert sflow_ctl("wait", "bad", cwd=tmp_path).returncode == 3
    assert sflow_ctl("wait", "good", cwd=tmp_path).returncode == 0
    late = sflow_ctl("wait", "--for", "ready", "--timeout", "0.2", cwd=tmp_path)
    assert late.returncode == 124
    assert late.stderr.startswith("live has not become ready within 0.2 s: srv is running")
    status, report = answer(tmp_path, "cli", "--timeout", "0")
    assert (status, report["is_timed_out"], report["is_met"]) == (124, True, False)
    never = sflow_ctl("wait", "good", "after", "--for", "ready", cwd=tmp_path)
    assert (never.returncode, never.stdout) == (1, "after is not ready: skipped, exit status 1\n")


def test_a_task_that_becomes_ready_ends_the_wait(live: Run, tmp_path: Path) -> None:
    waiting = subprocess.Popen(
        command("wait", "srv", "--for", "ready"), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    (tmp_path / "up").touch()
    assert waiting.communicate(timeout=60)[0] == "ready: srv\n"
    assert waiting.returncode == 0


def test_the_end_of_a_run_ends_the_wait_with_its_status(live: Run, tmp_path: Path) -> None:
    waiting = subprocess.Popen(command("wait"), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: Path(f"/proc/{waiting.pid}/comm").read_text(), "it runs")
    live.process.send_signal(signal.SIGTERM)
    assert live.finish()[0] == 143
    assert "was terminated" in waiting.communicate(timeout=60)[0]
    assert waiting.returncode == 143


def test_a_killed_controller_ends_the_wait(live: Run, tmp_path: Path, kill: Callable[[Run], None]) -> None:
    waiting = subprocess.Popen(command("wait", "live"), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    kill(live)
    output = waiting.communicate(timeout=60)[0]
    assert waiting.returncode == 3
    assert output.startswith("live died: controller pid")
    assert "next: sflow-ctl run --resume" in output
    status, report = answer(tmp_path, "live", "srv")
    assert (status, report["tasks"][0]["state"]) == (3, "lost")


def test_a_controller_that_is_replaced_does_not_end_the_wait(live: Run, tmp_path: Path) -> None:
    waiting = subprocess.Popen(
        command("wait", "live", "srv"), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    first = live.kill_controller()
    wait_until(lambda: live.controller != first, "another controller")
    wait_until(lambda: any(entry.incarnation == 2 for entry in live.entries()), "it has taken over")
    live.process.terminate()
    assert live.finish()[0] == 143
    assert waiting.communicate(timeout=60)[0].startswith("srv: cancelled, exit status ")
    assert waiting.returncode == 143
    assert "took over" in sflow_ctl("events", "live", "--type", "run", cwd=tmp_path).stdout


def test_a_summary_that_appears_late_still_decides(ended: Run, tmp_path: Path) -> None:
    summary, hidden = ended.directory / ".sflow/summary.json", tmp_path / "hidden"
    summary.rename(hidden)
    waiting = subprocess.Popen(command("wait", "ended"), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=8)
    hidden.rename(summary)
    assert "ended: failed after" in waiting.communicate(timeout=60)[0]
    assert waiting.returncode == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (
            ("nosuch",),
            "no-such-run",
            "neither a run nor a task of ended\n  hint:  its tasks are good, bad, after",
        ),
        (("ended", "nosuch"), "unknown-task", "good, bad, after"),
        (("--for", "ready"), "no-services", "has no services"),
        (("./nosuch",), "no-such-run", "is not a run directory"),
    ],
)
def test_wrong_names_are_answered(
    ended: Run, tmp_path: Path, words: tuple[str, ...], code: str, says: str
) -> None:
    done = sflow_ctl("wait", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert f"error[{code}]" in done.stderr
    assert says in done.stderr


def test_a_broken_run_is_an_error_with_its_file(ended: Run, tmp_path: Path) -> None:
    (ended.directory / ".sflow/plan.json").write_text("{")
    done = sflow_ctl("wait", "ended", cwd=tmp_path)
    assert done.returncode == 2
    assert "plan.json is damaged, or was not written to its end" in done.stderr
    assert os.path.relpath(ended.directory, tmp_path) in done.stderr
    bad_time = sflow_ctl("wait", "--timeout", "soon", cwd=tmp_path)
    assert bad_time.returncode == 2
    assert "must be seconds or a duration such as 90s" in bad_time.stderr

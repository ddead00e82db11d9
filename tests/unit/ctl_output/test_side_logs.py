"""Output of commands beside tasks: an agent's report never leads out of the run directory."""

from pathlib import Path

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import SideCommandEnded
from sflow_ctl.runtime.logs.side_logs import keep_output


def ended(task: str) -> SideCommandEnded:
    return SideCommandEnded(rank=RankId(AttemptId(task, 1), 0), purpose="stop", output=b"bye\n", problem="")


def test_output_is_kept_beside_the_log_of_the_task(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    keep_output(tmp_path, "node1", ended("t"))
    (kept,) = (tmp_path / "t").iterdir()
    assert kept.read_text().endswith("bye\n")


@pytest.mark.parametrize("task", ["../up", "/abs", "a/../../up", "", "a\0b"])
def test_a_task_name_of_a_peer_never_leads_out_of_the_run_directory(tmp_path: Path, task: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(OSError, match="not a task of this run"):
        keep_output(run, "node1", ended(task))
    assert [path.name for path in tmp_path.rglob("*")] == ["run"]


def test_a_symlink_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "t" / "t.stop.log").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        keep_output(tmp_path, "node1", ended("t"))
    assert victim.read_text() == "mine"

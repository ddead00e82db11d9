"""What tasks have used, in the table at the end of a run and in its summary."""

from pathlib import Path

import pytest

from protocol.messages.telemetry import RankUse
from sflow_ctl.core.states import Outcome, Reason, TaskState, Transition
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import read_summary, summary, summary_json, view_of
from sflow_ctl.report.tables import closing_table
from sflow_ctl.report.words import energy_text
from tests.unit.planner.planning import plan_of

TEXT = "workflow: {name: w, tasks: [{name: a, script: [x]}, {name: b, script: [x]}]}\n"
USE = RankUse(cpu_s=12.5, max_rss_bytes=3_400_000, energy_j=12_400.0, other_gpus=("GPU-1",))


def _ended(tmp_path: Path, runtime_s: float, use: RankUse | None) -> RunView:
    state = RunView(plan_of(tmp_path, TEXT))
    for name, used in (("a", use), ("b", None)):
        state.apply(
            Transition(
                task=name, attempt=1, old=TaskState.RUNNING, new=TaskState.COMPLETED, reason=Reason("exit"),
                node=0, exit_code=0, runtime_s=runtime_s, use=used,
            )
        )  # fmt: skip
    return state


def test_a_run_of_some_seconds_shows_what_its_tasks_used(tmp_path: Path) -> None:
    table = closing_table(_ended(tmp_path, 6.0, USE))
    assert table.headings[4:8] == ("DURATION", "CPU", "MEMORY", "ENERGY")
    assert [row[5:8] for row in table.rows] == [("12.5 s", "3.4 MB", "12.4 kJ"), ("", "", "")]


@pytest.mark.parametrize(("runtime_s", "use"), [(4.9, USE), (6.0, None), (6.0, RankUse(cpu_s=9.0))])
def test_others_have_no_columns_for_it(tmp_path: Path, runtime_s: float, use: RankUse | None) -> None:
    assert "CPU" not in closing_table(_ended(tmp_path, runtime_s, use)).headings


def test_the_summary_keeps_what_was_used(tmp_path: Path) -> None:
    state = _ended(tmp_path, 6.0, USE)
    made = summary(
        state, Outcome.COMPLETED, None, run_id="r", exit_status=0, started_wall_ns=1, ended_wall_ns=2
    )
    content = read_summary(b"".join(summary_json(made)))
    task = content.tasks[0]
    assert (task.cpu_s, task.max_rss_bytes, task.gpu_energy_j, task.other_gpus) == (
        12.5,
        3_400_000,
        12_400.0,
        ("GPU-1",),
    )
    assert content.tasks[1].cpu_s is None
    again = view_of(content, state.plan)
    assert [again.tasks[name].use for name in ("a", "b")] == [USE, None]


def test_another_attempt_begins_without_what_the_last_one_used(tmp_path: Path) -> None:
    state = _ended(tmp_path, 6.0, USE)
    state.apply(
        Transition(task="a", attempt=2, old=TaskState.QUEUED, new=TaskState.STARTING, reason=Reason("starts"))
    )
    assert state.tasks["a"].use is None


@pytest.mark.parametrize(
    ("joules", "text"), [(0.0, "0 J"), (845.4, "845 J"), (12_400.0, "12.4 kJ"), (3_096_000.0, "0.86 kWh")]
)
def test_energy_has_a_unit_that_people_read(joules: float, text: str) -> None:
    assert energy_text(joules) == text

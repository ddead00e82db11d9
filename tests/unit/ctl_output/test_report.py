"""A run in words."""

import msgspec
import pytest

from sflow_ctl.cli.terminal.tables import plain_text, terminal_text
from sflow_ctl.core.states import FirstCause, Outcome, Reason, TaskState, Transition
from sflow_ctl.plan.model import Placement, Plan, PlannedNode, PlannedTask
from sflow_ctl.plan.parts.again import Retries
from sflow_ctl.report.cause import first_cause, resume_commands
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import read_summary, summary, summary_json, task_summaries, view_of
from sflow_ctl.report.tables import Table, closing_table, ended_table, status_table, totals
from sflow_ctl.report.words import MANY_TASKS, duration_text, gpus_text

S = TaskState


def plan_of(*names: str, retries: int = 0) -> Plan:
    node = PlannedNode(index=0, backend="local", backend_index=0, name="n07", address="127.0.0.1", gpus=8)
    tasks = tuple(
        PlannedTask(
            name=name,
            base=name,
            backend="local",
            operator="bash",
            operator_kind="bash",
            argv=("bash",),
            script="",
            env={},
            placement=Placement(nodes=(0,)),
            retries=Retries(count=retries),
        )
        for name in names
    )
    return Plan(workflow="wf", nodes=(node,), tasks=tasks)


def change(
    task: str,
    new: TaskState,
    word: str = "exit",
    *,
    attempt: int = 1,
    gpus: tuple[int, ...] = (),
    exit_code: int | None = None,
    signal: int | None = None,
    runtime_s: float | None = None,
) -> Transition:
    return Transition(
        task=task,
        attempt=attempt,
        old=S.QUEUED,
        new=new,
        reason=Reason(word, "because"),
        node=0,
        gpus=gpus,
        exit_code=exit_code,
        signal=signal,
        runtime_s=runtime_s,
    )


def lines_of(table: Table) -> list[str]:
    """The lines that a file gets."""
    return [*(plain_text(table).split("\n") if table.rows else []), *table.notes]


def text_of(table: Table) -> str:
    return "\n".join(lines_of(table))


def failed_run() -> RunView:
    state = RunView(plan_of("load", "train", "after", retries=1))
    state.apply_all(
        [
            change("load", S.STARTING),
            change("load", S.COMPLETED, exit_code=0, runtime_s=0.5),
            change("train", S.STARTING, gpus=(0, 1, 2, 3)),
            change("train", S.WAITING, "retry", exit_code=3, runtime_s=2.0, gpus=(0, 1, 2, 3)),
            change("train", S.STARTING, attempt=2, gpus=(0, 1, 2, 3)),
            change("train", S.FAILED, "signal", attempt=2, signal=9, runtime_s=75.0, gpus=(0, 1, 2, 3)),
        ]
    )
    state.apply(
        Transition(task="after", attempt=0, old=S.WAITING, new=S.CANCELLED, reason=Reason("fail_fast"))
    )
    return state


def test_the_closing_table_is_aligned_and_complete() -> None:
    assert lines_of(closing_table(failed_run())) == [
        "TASK   STATE      REASON     ATTEMPTS  EXIT     DURATION  NODE  GPUS",
        "load   completed                    1  0          0.50 s  n07   -",
        "train  failed     signal            2  SIGKILL      1:15  n07   0-3",
        "after  cancelled  fail_fast         -  -               -  -     -",
    ]


@pytest.mark.parametrize("width", [60, 70, 80])
def test_a_narrow_table_fits_and_keeps_what_matters(width: int) -> None:
    state = RunView(plan_of("a_task_with_a_very_long_name_indeed_it_goes_on"))
    table = terminal_text(closing_table(state), width, colours=False)
    assert all(len(line) <= width for line in table.split("\n"))
    assert "\u2026" in table
    assert "waiting" in table


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (70, ["TASK", "STATE", "REASON", "ATTEMPTS", "EXIT", "DURATION", "NODE"]),
        (48, ["TASK", "STATE", "REASON", "EXIT", "DURATION"]),
        (38, ["TASK", "STATE", "REASON", "DURATION"]),
        (28, ["TASK", "STATE", "REASON"]),
        (18, ["TASK", "STATE"]),
    ],
)
def test_a_table_without_room_keeps_the_names_of_its_rows(width: int, headings: list[str]) -> None:
    lines = terminal_text(closing_table(failed_run()), width, colours=False).split("\n")
    assert [one for one in lines[0].split() if one != "GPUS"] == headings
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", range(40, 70))
def test_a_name_in_the_last_column_is_never_cut_without_an_ellipsis(width: int) -> None:
    table = Table(
        headings=("RUN", "STATE", "DIRECTORY"),
        rows=(("a" * 40, "completed", "b" * 40),),
        shrinks=frozenset({"RUN", "DIRECTORY"}),
    )
    words = terminal_text(table, width, colours=False).split("\n")[1].split()
    assert all(word.endswith("\u2026") or word in ("a" * 40, "completed") for word in words), words


def test_colours_change_no_column() -> None:
    import re

    plain = terminal_text(closing_table(failed_run()), 100, colours=False)
    assert (
        re.sub("\x1b\\[[0-9;]*m", "", terminal_text(closing_table(failed_run()), 100, colours=True)) == plain
    )


def test_a_large_run_shows_totals_and_what_did_not_complete() -> None:
    names = [f"t{number}" for number in range(1_000)]
    state = RunView(plan_of(*names))
    for number, name in enumerate(names):
        state.apply(change(name, S.FAILED if number % 10 == 0 else S.COMPLETED, exit_code=0))
    lines = lines_of(closing_table(state))
    assert len(lines) == 1 + MANY_TASKS + 2
    assert lines[-2] == "... and 60 more that have not completed"
    assert lines[-1] == "1000 tasks: 900 completed, 100 failed"


def test_a_running_task_shows_for_how_long() -> None:
    state = RunView(plan_of("serve"))
    state.apply(change("serve", S.RUNNING), wall_ns=1_000_000_000)
    assert "3.50 s" in text_of(status_table(state, 4_500_000_000))
    assert totals(state) == "1 running"


def test_the_first_cause_names_task_node_exit_log_and_what_to_type() -> None:
    cause = FirstCause(
        text="task train failed: killed by SIGKILL",
        task="train",
        attempt=2,
        node=0,
        reason=Reason("signal", "killed by SIGKILL"),
    )
    text = first_cause(
        failed_run(), Outcome.FAILED, cause, run="R", log="out/train.log", log_tail=["step 1", "step 2"]
    )
    assert text == [
        "task train failed: killed by SIGKILL",
        "  task:  train, attempt 2 of 2",
        "  node:  n07",
        "  log:   out/train.log",
        "    | step 1",
        "    | step 2",
        "  next:  sflow-ctl logs --run R train",
        "         sflow-ctl run --resume R",
        "         sflow-ctl run FILE --resume R  (after editing the file)",
    ]


def test_a_resume_names_the_files_that_may_be_edited() -> None:
    assert (
        resume_commands("R", ["wf.yaml"])[1] == "sflow-ctl run wf.yaml --resume R  (after editing the file)"
    )
    several = resume_commands("R", ["my wf.yaml", "b.yaml"])[1]
    assert several == "sflow-ctl run 'my wf.yaml' b.yaml --resume R  (after editing the files)"


def test_the_first_cause_shows_what_explains_it() -> None:
    reason = Reason(
        "port_in_use",
        "port 80 was in use (exit status 1)",
        hint="use another one",
        line="bind: Address already in use",
        line_number=7,
    )
    cause = FirstCause(text=f"train: {reason.text}", task="train", node=0, reason=reason)
    lines = first_cause(failed_run(), Outcome.FAILED, cause, run="R")
    assert lines[-6:-3] == [
        "  why:   port_in_use",
        "  line:  7: bind: Address already in use",
        "  hint:  use another one",
    ]
    without = msgspec.structs.replace(cause, text="train failed")
    assert "  why:   port_in_use: port 80 was in use (exit status 1)" in first_cause(
        failed_run(), Outcome.FAILED, without, run="R"
    )


def test_later_readers_see_why_tasks_failed() -> None:
    state = failed_run()
    assert lines_of(ended_table(state))[-1] == "train failed: because"
    assert "because" not in text_of(ended_table(state, but="train"))
    assert "train failed: because" in text_of(status_table(state, 0))


def test_no_column_is_spent_where_nothing_went_wrong() -> None:
    state = RunView(plan_of("a"))
    state.apply(change("a", S.COMPLETED, exit_code=0))
    assert "REASON" not in text_of(closing_table(state))
    state.apply_all([change("a", S.WAITING, "retry", exit_code=3)])
    assert "REASON" not in text_of(closing_table(state))
    retry = change("a", S.WAITING, "retry", exit_code=3)
    state.apply(msgspec.structs.replace(retry, reason=Reason("retry", "again", after="nccl")))
    assert "nccl" in text_of(closing_table(state))


def test_a_cause_without_a_task_is_shown_too() -> None:
    text = first_cause(failed_run(), Outcome.TIMEOUT, FirstCause(text="the time limit is over"), run="R")
    assert text == [
        "the run was stopped at its time limit: the time limit is over",
        "  next:  sflow-ctl run --resume R",
        "         sflow-ctl run FILE --resume R  (after editing the file)",
    ]


def test_the_summary_reads_back_as_it_was_written() -> None:
    whole = summary(
        failed_run(),
        Outcome.FAILED,
        FirstCause(text="x", task="train"),
        run_id="R",
        exit_status=1,
        started_wall_ns=0,
        ended_wall_ns=2_500_000_000,
        refused={"malformed": 2},
    )
    assert read_summary(b"".join(summary_json(whole))) == whole
    assert whole.duration_s == 2.5
    assert whole.counts == {"completed": 1, "failed": 1, "cancelled": 1}
    assert whole.tasks[1].signal == "SIGKILL"
    with pytest.raises(msgspec.DecodeError):
        read_summary(b"{}")


def test_an_attempt_has_ended_when_a_newer_one_began_or_the_task_ended() -> None:
    state = failed_run()
    assert state.has_ended("train", 1)
    assert state.has_ended("train", 2)
    assert not state.has_ended("train", 3)
    assert state.is_ended


@pytest.mark.parametrize(
    ("gpus", "text"), [((), "-"), ((3,), "3"), ((0, 1, 2, 6), "0-2,6"), ((5, 1, 0), "0-1,5")]
)
def test_gpu_lists_are_short(gpus: tuple[int, ...], text: str) -> None:
    assert gpus_text(gpus) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.004, "0.00 s"), (9.994, "9.99 s"), (59.9, "59.9 s"), (59.99, "1:00"), (3661, "1:01:01")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_ux_12_a_cause_says_nothing_twice() -> None:
    line = "bash: line 1: pythn3: command not found"
    state = RunView(plan_of("a"))
    state.apply(change("a", S.FAILED, "launch", exit_code=127))
    reason = Reason("launch", f"{line} (exit status 127)", hint="check it", line=line)
    cause = FirstCause(text=f"task a failed: {reason.text}", task="a", node=0, reason=reason)
    text = first_cause(state, Outcome.FAILED, cause, run="R", log="a.log", log_tail=[line, ""])
    assert sum(line in one for one in text) == 1
    assert [one for one in text if one.startswith(("  exit:", "  line:"))] == []
    assert "  why:   launch" in text
    assert "  log:   a.log" in text
    plain = FirstCause(
        text="task a failed: exit status 127", task="a", reason=Reason("exit", "exit status 127")
    )
    text = first_cause(state, Outcome.FAILED, plain, run="R", log="a.log", log_tail=["one", line])
    assert text[0] == "task a failed: exit status 127"
    assert [one for one in text if one.startswith(("  exit:", "  why:"))] == []
    assert f"    | {line}" in text


def test_ux_09_tasks_that_did_not_run_have_a_reason() -> None:
    state = RunView(plan_of("a", "b", "c"))
    state.apply(change("a", S.SKIPPED, "upstream"))
    state.apply(change("b", S.CANCELLED, "interrupted"))
    rows = closing_table(state).rows
    assert [row[2] for row in rows] == ["upstream", "interrupted", ""]


def test_ux_09_the_last_line_counts_what_did_not_complete() -> None:
    from sflow_ctl.cli.closing import shortfall

    state = RunView(plan_of(*"abcdefg"))
    for name, new in (("a", S.FAILED), ("b", S.LOST), ("c", S.SKIPPED), ("d", S.COMPLETED)):
        state.apply(change(name, new))
    assert shortfall(state) == ": 2 of 7 tasks failed, 1 skipped"
    state = RunView(plan_of("a", "b"))
    state.apply(change("a", S.CANCELLED))
    assert shortfall(state) == ": 1 of 2 tasks cancelled"
    assert shortfall(RunView(plan_of("a", "b"))) == ""
    alone = RunView(plan_of("a"))
    alone.apply(change("a", S.FAILED))
    assert shortfall(alone) == ""


def test_ux_01_a_service_that_stays_up_until_it_is_stopped_is_stopped() -> None:
    plan = plan_of("web", "never")
    tasks = tuple(msgspec.structs.replace(task, kind="service") for task in plan.tasks)
    for keep_alive, shown in ((True, ["stopped", "cancelled"]), (False, ["cancelled", "cancelled"])):
        state = RunView(msgspec.structs.replace(plan, tasks=tasks, keep_alive=keep_alive))
        state.apply(change("web", S.CANCELLED, "interrupted", signal=15))
        state.apply(change("never", S.CANCELLED, "interrupted", attempt=0))
        assert [row[1] for row in closing_table(state).rows] == shown


def test_the_state_of_a_run_can_be_taken_from_its_summary() -> None:
    state = failed_run()
    whole = summary(
        state, Outcome.FAILED, None, run_id="R", exit_status=1, started_wall_ns=0, ended_wall_ns=1
    )
    read = view_of(whole, state.plan)
    assert read.counts() == state.counts()
    assert text_of(ended_table(read)) == text_of(ended_table(state))
    assert task_summaries(read) == task_summaries(state)


def test_columns_are_left_out_whole_where_a_terminal_is_narrow() -> None:
    names = ("TASK", "EXIT", "CPU", "MEMORY", "NODE")
    table = Table(
        names,
        (("a-rather-long-task-name", "SIGTERM", "1.25 s", "4.93 MB", "localhost"),),
        shrinks=frozenset({"TASK", "NODE"}),
        spare=("MEMORY", "CPU", "NODE"),
    )
    shown = {width: terminal_text(table, width, colours=False).splitlines() for width in (80, 45, 38, 26)}
    assert [line.split() for line in (lines[0] for lines in shown.values())] == [
        list(names),
        ["TASK", "EXIT", "CPU", "NODE"],
        ["TASK", "EXIT", "NODE"],
        ["TASK", "EXIT"],
    ]
    assert "4.93 MB" in shown[80][1]
    assert "1.25 s" in shown[45][1]
    assert all(len(line) <= width for width, lines in shown.items() for line in lines)


def test_columns_are_aligned_below_wide_characters() -> None:
    table = Table(("TASK", "N"), (("\u65e5\u672c", "1"), ("abcdef", "2")), right=frozenset({"N"}))
    assert plain_text(table).splitlines() == ["TASK    N", "\u65e5\u672c    1", "abcdef  2"]


def test_commands_to_copy_are_quoted_for_a_shell() -> None:
    state = RunView(plan_of("a task"))
    state.apply(change("a task", S.FAILED, exit_code=3))
    cause = FirstCause(text="task a task failed: because", task="a task", node=0, reason=None)
    lines = first_cause(state, Outcome.FAILED, cause, run="out/my run", log="out/x.log", log_tail=["x"])
    assert [line.strip() for line in lines[-3:]] == [
        "next:  sflow-ctl logs --run 'out/my run' 'a task'",
        "sflow-ctl run --resume 'out/my run'",
        "sflow-ctl run FILE --resume 'out/my run'  (after editing the file)",
    ]

"""What of a task's output a console shows, and in which column."""

import pytest
from msgspec.structs import replace

from protocol.errors import PlanError
from sflow_ctl.cli.terminal.line_prefix import MAX_HELD_BYTES, LinePrefixer, prefix_width
from sflow_ctl.cli.terminal.shown_tasks import ErrorLines, ShownTasks
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.prune import showing_only
from tests.unit.ctl_output.test_report import plan_of


def test_ux_15_prefixes_share_a_column_on_a_terminal_and_only_there() -> None:
    plan = plan_of("db", "bench_12")
    width = prefix_width(plan.tasks)
    on_terminal = LinePrefixer(is_terminal=True, colours=False, width=width)
    assert on_terminal.add("db", b"one\ntwo\n") == b"[db]       one\n[db]       two\n"
    assert on_terminal.add("bench_12", b"x\n") == b"[bench_12] x\n"
    piped = LinePrefixer(is_terminal=False, colours=False)
    assert piped.add("db", b"one\n") == b"[db] one\n"


def test_names_of_processes_and_wide_letters_count_and_long_names_do_not() -> None:
    gang = replace(plan_of("gang").tasks[0], ranks_per_node=(8, 8))
    assert prefix_width([gang]) == len("[gang.15]")
    assert prefix_width(plan_of("a", "x" * 60).tasks) == len("[a]")
    assert prefix_width(plan_of("模型").tasks) == 6
    assert prefix_width(()) == 0
    lines = LinePrefixer(is_terminal=True, colours=False, width=4)
    assert lines.add("longer", b"x\n") == b"[longer] x\n"


def test_ux_15_errors_alone_are_shown_with_what_is_indented_below_them() -> None:
    log = (
        b"GET / 200\nTraceback (most recent call last):\n  File x, line 3\n    boom()\nValueError: boom\n"
        b"GET / 200\n  not a detail\nnode n1: FAILED\n"
    )
    shown = ErrorLines().of(log)
    assert shown.splitlines() == [
        b"Traceback (most recent call last):", b"  File x, line 3", b"    boom()", b"ValueError: boom", b"node n1: FAILED",
    ]  # fmt: skip
    cut = ErrorLines()
    assert b"".join(cut.of(line) for line in log.splitlines(keepends=True)) == shown  # however it arrives


def test_errors_are_chosen_by_task_and_the_others_stay_whole() -> None:
    plan = plan_of("web", "job")
    plan = replace(plan, tasks=(replace(plan.tasks[0], console="errors"), plan.tasks[1]))
    lines = LinePrefixer(is_terminal=False, colours=False, has_errors_only=ShownTasks(plan).has_errors_only)
    assert lines.add("web", b"fine\nerror: no\n") == b"[web] error: no\n"
    assert lines.add("web.3", b"fine\n") == b""
    assert lines.add("job", b"fine\n") == b"[job] fine\n"
    assert lines.add("web", b"unfinished error") == b""
    assert lines.end("web") == b"[web] unfinished error\n"
    assert lines.add("web", b"x" * (MAX_HELD_BYTES + 1)) == b""
    assert lines.add("web", b"fatal " * MAX_HELD_BYTES).startswith(b"[web] fatal fatal")


def shown(plan: Plan) -> list[str]:
    tasks = ShownTasks(plan)
    return [task.name for task in plan.tasks if tasks.shows(task.name)]


def test_ux_15_only_names_the_tasks_whose_output_is_shown() -> None:
    plan = plan_of("web", "bench_1", "bench_2")
    plan = replace(plan, tasks=(replace(plan.tasks[0], console="none"), *plan.tasks[1:]))
    assert shown(plan) == ["bench_1", "bench_2"]
    assert shown(showing_only(plan, ["web"])) == ["web"]  # what is named is shown, whatever the file says
    assert shown(showing_only(plan, ["bench_*", "web"])) == ["web", "bench_1", "bench_2"]
    with pytest.raises(PlanError) as caught:
        showing_only(plan, ["bench_3"])
    (finding,) = caught.value.findings
    assert (finding.code, finding.where) == ("unknown-task", "--only bench_3")
    assert finding.hint == 'did you mean "bench_2"?'

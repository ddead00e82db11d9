"""The report of a run as data."""

import msgspec

from sflow_ctl.core.states import FirstCause, Outcome, Reason, Transition
from sflow_ctl.plan.model import Dependency, Placement
from sflow_ctl.report.monitor.metrics import MetricRow
from sflow_ctl.report.run_report.building import covered, run_report
from sflow_ctl.report.run_report.model import PathStep, RunReport, ValueSpread
from sflow_ctl.report.run_report.sweeps import results_report
from sflow_ctl.report.run_report.usage import MAX_COURSES, UsageTally
from tests.unit.run_report.runs import BEGAN, S, Story, chain, many, plan, task

CAUSE = FirstCause(
    text="task last failed: exit status 1",
    task="last",
    attempt=1,
    node=0,
    reason=Reason("exit", "exit status 1"),
)


def steps(report: RunReport) -> list[tuple[str, str, str]]:
    return [(f"{one.task}#{one.attempt}", one.after, one.until) for one in report.path]


def test_an_ended_run_with_its_cause_attempts_and_times() -> None:
    story = chain()
    report = run_report(story.record(story.ended(10.0, Outcome.FAILED, CAUSE), log_tail=["oops"]))
    assert (report.run.state, report.run.exit_status, report.run.duration_s) == ("failed", 1, 10.0)
    assert report.run.counts == {"cancelled": 1, "completed": 1, "failed": 1}
    assert report.cause is not None
    assert report.cause.text == "task last failed: exit status 1"
    assert report.cause.node == "n0"
    assert report.cause.log == "last/last.log"
    assert report.cause.log_tail == ("oops",)
    assert report.cause.next[0] == "sflow-ctl logs --run runs/r last"
    srv, work, last = report.tasks
    assert (srv.startup_s, srv.ready_after_s, srv.ran_s) == (0.5, 3.0, 9.0)
    assert srv.attempts[0].gpus == (0, 1)
    assert [(one.number, one.end, one.exit) for one in work.attempts] == [
        (1, S.FAILED, "3"),
        (2, S.COMPLETED, "0"),
    ]
    assert (work.waited_s, work.startup_s, work.ran_s) == (0.0, 0.25, 1.75)
    assert last.hint == "look there"
    assert report.groups[1].retried == 1
    assert report.groups[0].ready_after_s == ValueSpread(3.0, 3.0, 3.0)
    assert report.nodes[0].gpu_busy == {"0": 0.95, "1": 0.95}
    assert report.nodes[0].busy_s == 9.5


def test_the_json_twin_holds_the_whole_report() -> None:
    story = chain()
    report = run_report(story.record(story.ended(10.0, Outcome.FAILED, CAUSE)))
    assert msgspec.json.decode(msgspec.json.encode(report), type=RunReport) == report
    assert report.version == 1


def test_the_critical_path_goes_over_readiness_retries_and_the_cause() -> None:
    story = chain()
    report = run_report(story.record(story.ended(10.0, Outcome.FAILED, CAUSE)))
    assert steps(report) == [
        ("srv#1", "begin", "ready"),
        ("work#1", "dependency", "end"),
        ("work#2", "retry", "end"),
        ("last#1", "dependency", "end"),
    ]
    assert report.path[0] == PathStep(
        task="srv", attempt=1, after="begin", until="ready",
        begin_s=0.0, queued_s=0.5, startup_s=0.5, ran_s=3.0, end_s=4.0,
    )  # fmt: skip
    assert report.path[2].queued_s == 1.0  # the pause before the second attempt
    assert report.path[-1].end_s == 9.5


def test_the_critical_path_goes_over_what_gave_a_place_free() -> None:
    first, other, second = task("first", gpus=(0,)), task("other", gpus=(1,)), task("second", gpus=(0,))
    story = Story(plan(first, other, second))
    story.start(0.0, "first", gpus=(0,))
    story.start(0.0, "other", gpus=(1,))
    story.end(4.9, "other")
    story.end(5.0, "first")
    story.start(5.01, "second", gpus=(0,))
    story.end(8.0, "second")
    report = run_report(story.record(story.ended(8.0)))
    assert steps(report) == [("first#1", "begin", "end"), ("second#1", "place", "end")]
    assert report.cause is None


def test_the_path_of_a_run_that_went_on_after_a_failure_leads_to_its_end() -> None:
    """Not to the service that was stopped when nothing needed it any more."""
    srv = task("srv", serves=True)
    bad, good = task("bad"), task("good")
    end = task("end", finally_when="always")
    story = Story(plan(srv, bad, good, end))
    for name in ("srv", "bad", "good"):
        story.start(0.0, name)
    story.end(1.0, "bad", S.FAILED)
    story.end(4.0, "good")
    story.change(4.0, "srv", S.RUNNING, S.STOPPING)
    story.change(4.5, "srv", S.STOPPING, S.CANCELLED)
    story.change(4.5, "end", S.WAITING, S.QUEUED, attempt=0)
    story.start(4.5, "end")
    story.end(5.0, "end")
    cause = FirstCause(text="task bad failed", task="bad", reason=Reason("exit", "because"))
    report = run_report(story.record(story.ended(5.0, Outcome.FAILED, cause)))
    assert steps(report) == [("good#1", "begin", "end"), ("end#1", "stop", "end")]


def test_the_critical_path_takes_the_last_replica_that_was_waited_for() -> None:
    members = [task(f"t_{n}", base="t") for n in range(3)]
    last = task("last")
    group = msgspec.structs.replace(last, depends_on=(Dependency(task="t", is_group=True),))
    after = task("after", finally_when="after_stop")
    story = Story(plan(*members, group, after))
    for number in range(3):
        story.start(0.0, f"t_{number}")
    story.end(1.0, "t_0")
    story.end(3.0, "t_1")
    story.end(2.0, "t_2")
    story.change(3.0, "last", S.WAITING, S.QUEUED, attempt=0)
    story.start(3.0, "last")
    story.end(4.0, "last")
    story.change(4.0, "after", S.WAITING, S.QUEUED, attempt=0)
    story.start(4.0, "after")
    story.end(5.0, "after")
    report = run_report(story.record(story.ended(5.0)))
    assert steps(report) == [
        ("t_1#1", "begin", "end"),
        ("last#1", "dependency", "end"),
        ("after#1", "stop", "end"),
    ]


def test_the_path_of_a_live_run_ends_now_and_a_service_is_not_its_end() -> None:
    story = Story(plan(task("srv", serves=True), task("work", "srv")))
    story.start(0.0, "srv")
    report = run_report(story.record(now_s=2.0))
    assert report.path == ()
    story.change(3.0, "srv", S.RUNNING, S.READY)
    story.change(3.0, "work", S.WAITING, S.QUEUED, attempt=0)
    story.start(3.0, "work")
    report = run_report(story.record(now_s=5.0))
    assert steps(report) == [("srv#1", "begin", "ready"), ("work#1", "dependency", "now")]
    assert report.path[-1].end_s == 5.0
    assert report.run.state == "running"
    assert report.run.ended_wall_ns is None
    assert report.tasks[1].ran_s == 2.0


def test_a_run_that_died_has_its_live_tasks_as_lost() -> None:
    story = Story(plan(task("work"), task("never", "work")))
    story.start(1.0, "work")
    story.state.lose_live_tasks(BEGAN + 2_000_000_000)
    story.courses.lose(BEGAN + 2_000_000_000)
    report = run_report(story.record(liveness="died"))
    assert report.run.duration_s == 2.0
    assert report.tasks[0].attempts[0].end is S.LOST
    assert report.tasks[1].attempts == ()
    assert steps(report) == [("work#1", "begin", "end")]


def test_tasks_that_ended_before_they_had_a_place_have_no_attempt() -> None:
    story = Story(plan(task("a"), task("b")))
    story.change(1.0, "a", S.WAITING, S.SKIPPED, attempt=0)
    story.change(1.0, "b", S.QUEUED, S.CANCELLED, attempt=0)
    report = run_report(
        story.record(story.ended(1.0, Outcome.INTERRUPTED, FirstCause(text="stopped by SIGINT")))
    )
    assert [one.attempts for one in report.tasks] == [(), ()]
    assert report.path == ()
    assert report.cause is not None
    assert report.cause.text == "the run was interrupted: stopped by SIGINT"
    assert report.cause.log == ""
    assert [one.ran_s for one in report.groups] == [None, None]


def test_late_and_repeated_changes_alter_nothing() -> None:
    story = chain()
    before = run_report(story.record(story.ended(10.0, Outcome.FAILED, CAUSE)))
    story.courses.note(_end("work", 1), BEGAN + 11_000_000_000)
    assert run_report(story.record(story.ended(10.0, Outcome.FAILED, CAUSE))).tasks == before.tasks


def _end(name: str, attempt: int) -> Transition:
    return Transition(task=name, attempt=attempt, old=S.RUNNING, new=S.COMPLETED, reason=Reason("exit"))


def test_an_attempt_on_several_nodes_is_on_all_of_them() -> None:
    wide = msgspec.structs.replace(
        task("wide"), placement=Placement(nodes=(0, 1), gpus=(0,)), ranks_per_node=(1, 1)
    )
    loose = msgspec.structs.replace(task("loose"), placement=Placement(nodes=(0, 1), is_flexible=True))
    story = Story(plan(wide, loose, nodes=2))
    story.start(0.0, "wide", gpus=(0,))
    story.start(0.0, "loose", node=1)
    story.end(5.0, "wide")
    story.end(5.0, "loose")
    report = run_report(story.record(story.ended(10.0)))
    assert [one.attempts[0].nodes for one in report.tasks] == [(0, 1), (1,)]
    assert [one.gpu_busy for one in report.nodes] == [{"0": 0.5}, {"0": 0.5}]


def test_time_that_is_covered_twice_counts_once() -> None:
    assert covered([(0, 2), (1, 3), (5, 6), (5.5, 5.75)]) == 4
    assert covered([]) == 0


def test_many_replicas_are_one_group_and_those_that_waited_follow_others() -> None:
    story = many(2000)
    report = run_report(story.record(story.ended(21.0)))
    (group,) = report.groups
    assert (group.count, group.counts) == (2000, {"completed": 1980, "failed": 20})
    assert steps(report)[0] == ("t_99#1", "begin", "end")
    assert steps(report)[-1] == ("t_1999#1", "place", "end")


# ---------------------------------------------------------------------- results


def results(story: Story, *rows: tuple[object, ...], columns: tuple[str, ...]) -> RunReport:
    return run_report(story.record(story.ended(1.0), results=(columns, rows)))


def test_values_of_a_sweep_become_plots_over_the_variable_with_numbers() -> None:
    tasks = [
        task(f"b_{model}_{users}", base="b", sweep=(("MODEL", model), ("USERS", users)))
        for model in ("x", "y", "z")
        for users in ("16", "4")
    ]
    rows = [
        (one.name, *dict(one.sweep).values(), "completed", 1, 0.5, 10.0 * place, "text", None)
        for place, one in enumerate(tasks)
    ]
    columns = ("task", "MODEL", "USERS", "state", "attempts", "runtime_s", "rate", "word", "nothing")
    report = results(Story(plan(*tasks)), *rows, columns=columns).results
    assert report is not None
    assert report.swept == ("MODEL", "USERS")
    (plot,) = report.plots
    assert (plot.value, plot.over, plot.places, plot.is_numeric) == ("rate", "USERS", ("4", "16"), True)
    assert [(one.name, one.values) for one in plot.series] == [
        ("MODEL=x", (10.0, 0.0)),
        ("MODEL=y", (30.0, 20.0)),
        ("MODEL=z", (50.0, 40.0)),
    ]


def test_places_that_are_no_numbers_keep_their_order_and_equal_ones_are_averaged() -> None:
    tasks = [
        task(f"b_{n}", base="b", sweep=(("KIND", kind),)) for n, kind in enumerate(("slow", "fast", "fast"))
    ]
    rows = [
        (one.name, dict(one.sweep)["KIND"], "completed", 1, 0.5, value)
        for one, value in zip(tasks, (1, 2, 4), strict=True)
    ]
    report = results(
        Story(plan(*tasks)), *rows, columns=("task", "KIND", "state", "attempts", "runtime_s", "v")
    ).results
    assert report is not None
    (plot,) = report.plots
    assert (plot.places, plot.is_numeric) == (("slow", "fast"), False)
    assert plot.series[0].values == (1.0, 3.0)


def test_without_a_sweep_or_with_one_place_there_is_no_plot() -> None:
    plain = {one.name: one for one in run_report(Story(plan(task("a"))).record()).tasks}
    assert (
        results_report(
            ("task", "state", "attempts", "runtime_s", "v"), [("a", "completed", 1, 1.0, 2)], plain
        ).plots
        == ()
    )
    swept = Story(plan(task("a", sweep=(("N", "1"),)), task("b", sweep=(("N", "2"),))))
    rows = (("a", "1", "completed", 1, 1.0, 2), ("b", "2", "failed", 1, 1.0, float("nan")))
    report = results(swept, *rows, columns=("task", "N", "state", "attempts", "runtime_s", "v")).results
    assert report is not None
    assert report.plots == ()


# ---------------------------------------------------------------------- use


def row(at_s: float, metric: str, value: float | None, resource: str = "system", note: str = "") -> MetricRow:
    scope = "gpu" if metric.startswith("gpu") else "cpu"
    return MetricRow(int(at_s * 1000), scope, resource, metric, value, "%", note)  # type: ignore[arg-type]


def test_readings_become_courses_with_averages_and_energy() -> None:
    tally = UsageTally(0, 240_000)
    for second in range(0, 240, 10):
        tally.add("n0", [row(second, "cpu_utilization_pct", 50.0 if second < 120 else 100.0)])
        tally.add(
            "n0",
            [row(second, "gpu_power_w", 200.0, "1"), row(second, "gpu_power_w", 100.0, "0", "simulated")],
        )
    tally.add(
        "n0",
        [row(5, "load_1m", 3.0), row(6, "cpu_utilization_pct", None), row(999, "cpu_utilization_pct", 1.0)],
    )
    report = tally.report()
    assert report is not None
    cpu, first, second_gpu = report.series
    assert (cpu.metric, cpu.average, cpu.highest, cpu.values[0], cpu.values[-1]) == (
        "cpu",
        75.0,
        100.0,
        50.0,
        100.0,
    )
    assert (first.gpu, second_gpu.gpu) == ("0", "1")
    assert report.energy_j == 300.0 * 230
    assert report.is_simulated
    assert len(report.at_s) == 24


def test_a_pause_in_the_readings_has_no_energy_and_no_readings_no_report() -> None:
    tally = UsageTally(0, 1000_000)
    assert tally.report() is None
    for second in (0, 10, 500, 510):
        tally.add("n0", [row(second, "gpu_power_w", 100.0, "0")])
    report = tally.report()
    assert report is not None
    assert report.energy_j == 2000.0


def test_of_too_many_gpus_only_the_averages_are_kept() -> None:
    tally = UsageTally(0, 1000)
    for node in range(MAX_COURSES + 1):
        tally.add(
            f"n{node:03}", [row(0.5, "gpu_utilization_pct", 10.0, "0"), row(0.5, "cpu_utilization_pct", 20.0)]
        )
    report = tally.report()
    assert report is not None
    assert all(one.values == () for one in report.series)
    assert {one.average for one in report.series} == {10.0, 20.0}

"""What differs between two runs."""

import msgspec

from sflow_ctl.plan.model import Plan
from sflow_ctl.report.page.comparison import comparison_page
from sflow_ctl.report.run_report.building import run_report
from sflow_ctl.report.run_report.comparing import RunComparison
from sflow_ctl.report.run_report.differences import MAX_DIFF_LINES, comparison
from sflow_ctl.report.run_report.model import RunReport
from tests.unit.run_report.runs import FILES, S, Story, plan, task


def report(of: Plan, seconds: float, **outputs: object) -> RunReport:
    story = Story(of)
    for one in of.tasks:
        story.start(0.0, one.name)
        story.end(seconds, one.name, S.COMPLETED, runtime_s=seconds)
    return run_report(story.record(story.ended(seconds), outputs={"a": outputs}))


def compared(left: Plan, right: Plan) -> RunComparison:
    return comparison(
        report(left, 2.0, rate=100, word="x"),
        report(right, 3.0, rate=110.0, new=1),
        (left, right),
        (["a: 1", "same"], ["a: 2", "same"]),
        lambda text: text.replace("sesame", "***"),
    )


def test_configuration_differs_at_the_deepest_place_that_both_have() -> None:
    one = task("a", env_of := "b")
    left = plan(one, task(env_of), variables={"MODEL": "x", "TOKEN": "sesame1"}, timeout_s=5.0)
    changed = msgspec.structs.replace(
        one, script="sleep 1", argv=("bash", "-c", "sleep 1"), env={"X": "1", "MODEL": "y", "SFLOW_Y": "2"}
    )
    right = plan(changed, task(env_of), task("c"), variables={"MODEL": "y", "TOKEN": "sesame2"})
    found = {one.path: (one.left, one.right) for one in compared(left, right).configuration}
    assert found["variables.MODEL"] == ("x", "y")
    assert found["tasks.a.script"] == ("true", "sleep 1")
    assert found["tasks.a.env.X"] == (None, "1")
    assert found["timeout_s"] == (5.0, None)
    assert found["tasks.c"][0] is None
    assert not [path for path in found if "SFLOW_Y" in path or path == "tasks.a.env.MODEL"]
    assert found["tasks.a.argv"] == (["bash"], ["bash", "-c", "(its script)"])


def test_secrets_of_plans_are_masked_and_directories_are_no_difference() -> None:
    left = plan(msgspec.structs.replace(task("a"), script="x /runs/r/a sesame1"))
    right = plan(msgspec.structs.replace(task("a"), script="x /runs/r/a sesame2"))
    (change,) = compared(left, right).configuration
    assert (change.left, change.right) == ("x RUN_DIRECTORY/a ***1", "x RUN_DIRECTORY/a ***2")


def test_equal_runs_have_no_differences() -> None:
    one = plan(task("a"))
    whole = compared(one, one)
    assert whole.configuration == ()
    assert "No differences." in comparison_page(whole, FILES)


def test_tasks_and_values_come_with_their_changes_the_greatest_first() -> None:
    whole = compared(plan(task("a"), task("b")), plan(task("a"), task("c")))
    assert [(one.name, one.states) for one in whole.tasks] == [
        ("b", ("completed", None)),
        ("c", (None, "completed")),
        ("a", ("completed", "completed")),
    ]
    assert [(one.name, one.left, one.right, one.change) for one in whole.values] == [
        ("rate", 100, 110.0, 0.1),
        ("word", "x", None, None),
        ("new", None, 1, None),
    ]
    assert whole.workflow[3:] == ("-a: 1", "+a: 2", " same")
    page = comparison_page(whole, FILES)
    for said in ("+10.0 %", "+1.00 s", "not there", "2.00 s → 3.00 s"):
        assert said in page, said


def test_long_differences_and_texts_are_cut_and_it_is_said() -> None:
    one = plan(task("a"))
    longer = plan(msgspec.structs.replace(task("a"), script="x" * 9000))
    lines = [str(number) for number in range(5000)]
    whole = comparison(report(one, 1.0), report(longer, 1.0), (one, longer), (lines, []), str)
    assert len(whole.workflow) == MAX_DIFF_LINES + 1
    assert whole.workflow[-1].endswith("more lines")
    (change,) = whole.configuration
    assert change.right.endswith("... (9000 characters)")


def test_the_name_of_a_run_is_no_difference_and_other_words_stay() -> None:
    sides = []
    for run_id in ("tel", "other"):
        one = report(plan(task("a")), 1.0)
        words = ("sflow-ctl", "run", "tel.yaml", "--run-id", run_id, f"--run-id={run_id}")
        sides.append(
            msgspec.structs.replace(one, run=msgspec.structs.replace(one.run, run_id=run_id, command=words))
        )
    of = plan(task("a"))
    left, right = sides
    found = comparison(left, right, (of, of), ([], []), lambda text: text)
    assert found.configuration == ()


def test_a_page_about_two_workflows_names_both() -> None:
    left, right = plan(task("a")), msgspec.structs.replace(plan(task("a")), workflow="second")
    assert f"Two runs of {left.workflow} and second<" in comparison_page(compared(left, right), FILES)
    assert f"Two runs of {left.workflow}<" in comparison_page(compared(left, left), FILES)

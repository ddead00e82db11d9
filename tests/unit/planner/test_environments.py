"""Environments of tasks: what the file may say, and the text for bash that is planned of it."""

from pathlib import Path

import pytest

from protocol.bootstrap import Steps, bash_text, failure_in, shown_steps
from protocol.errors import SpecError
from protocol.messages.rank_spec import Bootstrap
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.planner.show.text import plan_text
from tests.unit.planner.planning import findings_of, plan_of

TASK = "workflow: {name: w, tasks: [{name: t, script: [x], environment: e}]}\n"


def task_with(folder: Path, environment: str, workflow: str = TASK, more: str = "") -> PlannedTask:
    return plan_of(folder, f"{more}environments: {{e: {environment}}}\n{workflow}").tasks[0]


def bootstrap(folder: Path, environment: str, workflow: str = TASK, more: str = "") -> Bootstrap:
    found = task_with(folder, environment, workflow, more).bootstrap
    assert found is not None
    return found


def refusal(folder: Path, environments: str, workflow: str = TASK) -> tuple[str, str]:
    with pytest.raises(SpecError) as caught:
        plan_of(folder, f"{environments}{workflow}")
    assert len(caught.value.findings) == 1, caught.value.findings
    return caught.value.findings[0].code, caught.value.findings[0].what


def test_steps_have_their_order_whatever_that_of_the_file(tmp_path: Path) -> None:
    given = (
        "{before: [ulimit -s 9], env: {A: 1}, venv: v, source: [s.sh, {path: /t.sh, args: [a b]}], "
        "modules: [purge, gcc/1 cuda]}"
    )
    found = bootstrap(tmp_path, given)
    assert shown_steps(found.shared, found.before) == [
        "module purge",
        "module load gcc/1 cuda",
        "source s.sh",
        "source /t.sh 'a b'",
        "source v/bin/activate",
        "ulimit -s 9",
    ]
    assert ". ./s.sh;" in found.shared
    assert ". /t.sh 'a b';" in found.shared
    assert "A" in found.variables


def test_single_entries_need_no_list(tmp_path: Path) -> None:
    found = bootstrap(tmp_path, "{modules: a, source: ~/x.sh, before: 'true', conda: ~/c}")
    assert shown_steps(found.shared, found.before) == [
        "module load a",
        "source ~/x.sh",
        "conda activate ~/c",
        "true",
    ]
    assert '. "$HOME"/x.sh;' in found.shared
    assert '__sflow_activate "$HOME"/c;' in found.shared


def test_values_are_in_the_environment_and_not_in_the_text(tmp_path: Path) -> None:
    task = task_with(
        tmp_path, "{env: {A: \"it's $HOME\", B: 1.10, C: '${{ X }}'}}", more="variables: {X: x y}\n"
    )
    values = {key: value for key, value in task.env.items() if key.startswith("SFLOW_ENVIRONMENT_VALUE_")}
    assert {key[-1]: value for key, value in values.items()} == {"A": "it's $HOME", "B": "1.10", "C": "x y"}
    assert task.bootstrap is not None
    assert "it's" not in task.bootstrap.variables


def test_the_workflow_has_a_default_and_a_task_may_have_its_own_or_none(tmp_path: Path) -> None:
    text = (
        "environments: {e: {before: a}, f: {before: b}}\n"
        "workflow:\n  name: w\n  environment: e\n  tasks:\n"
        "    - {name: one, script: [x]}\n"
        "    - {name: two, script: [x], environment: f}\n"
        "    - {name: three, script: [x], environment: none}\n"
        "    - {name: four, script: [x], environment: {before: c}}\n"
    )
    names = [task.bootstrap and task.bootstrap.name for task in plan_of(tmp_path, text).tasks]
    assert names == ["e", "f", None, "task four"]


def test_a_task_without_one_has_nothing(tmp_path: Path) -> None:
    workflow = "workflow: {name: w, tasks: [{name: t, script: [x]}]}\n"
    task = task_with(tmp_path, "{before: x}", workflow)
    assert task.bootstrap is None
    assert not any("ENVIRONMENT" in name for name in task.env)


def test_swept_variables_are_no_part_of_what_replicas_share(tmp_path: Path) -> None:
    workflow = TASK.replace("environment: e", "environment: e, replicas: {variables: [N]}")
    more = "variables: {N: {value: 1, domain: [1, 2]}, M: 3}\n"
    assert bootstrap(tmp_path, "{source: '${{ M }}.sh'}", workflow, more).hidden == ("N",)


def test_expressions_of_an_environment_may_differ_between_replicas(tmp_path: Path) -> None:
    workflow = TASK.replace("environment: e", "environment: e, replicas: 2")
    plan = plan_of(tmp_path, f"environments: {{e: {{env: {{A: '${{{{ replica.index }}}}'}}}}}}\n{workflow}")
    assert [task.env["SFLOW_ENVIRONMENT_VALUE_A"] for task in plan.tasks] == ["0", "1"]


@pytest.mark.parametrize(
    ("environments", "code", "words"),
    [
        ("environments: {f: {}}\n", "unknown-environment", 'task "t" references unknown environment "e"'),
        ("environments: {e: {conda: a, venv: b}}\n", "conflicting-keys", "both conda and venv"),
        ("environments: {e: {env: {A-B: 1}}}\n", "wrong-variable-name", "not a name that a shell can export"),
        ("environments: {e: {env: {SFLOW_X: 1}}}\n", "wrong-variable-name", "is reserved"),
        ("environments: {e: {before: ['']}}\n", "wrong-value", "an entry of before"),
        ("environments: {e: {modules: [--force gcc]}}\n", "wrong-value", "read as an option"),
        ("environments: {e: {module: a}}\n", "unknown-key", "module"),
        ("environments: {e: {}, none: {}}\n", "wrong-name", 'cannot be called "none"'),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, environments: str, code: str, words: str) -> None:
    found = refusal(tmp_path, environments)
    assert found[0] == code
    assert words in found[1]


def test_a_misspelled_name_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        plan_of(
            tmp_path, f"environments: {{train: {{}}}}\n{TASK.replace('environment: e', 'environment: trian')}"
        )
    assert caught.value.findings[0].hint == 'did you mean "train"?'


def test_an_own_environment_is_checked_too(tmp_path: Path) -> None:
    workflow = TASK.replace("environment: e", "environment: {conda: a, venv: b}")
    assert refusal(tmp_path, "", workflow)[1] == 'environment of task "t" has both conda and venv'
    assert refusal(
        tmp_path, "", TASK.replace("tasks:", "environment: q, tasks:").replace(", environment: e", "")
    )[1].startswith("the workflow references")


def test_modules_of_a_node_are_refused_in_a_container(tmp_path: Path) -> None:
    box = "operators: {box: {type: container, image: x}}\n"
    workflow = TASK.replace("environment: e", "environment: e, operator: box")
    found = findings_of(tmp_path, f"{box}environments: {{e: {{modules: a}}}}\n{workflow}")
    assert [one.code for one in found] == ["environment-place"]
    task = plan_of(tmp_path, f"{box}environments: {{e: {{venv: /v}}}}\n{workflow}").tasks[0]
    assert task.bootstrap is not None
    assert not task.bootstrap.is_inside


def test_on_another_machine_the_script_sets_it_up(tmp_path: Path) -> None:
    far = "operators: {far: {type: ssh, host: h}}\n"
    workflow = TASK.replace("environment: e", "environment: e, operator: far")
    task = plan_of(tmp_path, f"{far}environments: {{e: {{before: a}}}}\n{workflow}").tasks[0]
    assert task.bootstrap is not None
    assert task.bootstrap.is_inside
    assert "SFLOW_ENVIRONMENT_SCRIPT" in task.env["SFLOW_SSH_SCRIPT"]
    assert "bash -c x" in task.env["SFLOW_SSH_SCRIPT"]


def test_the_plan_shows_the_steps(tmp_path: Path) -> None:
    text = plan_text(plan_of(tmp_path, f"environments: {{e: {{modules: a, before: b}}}}\n{TASK}"))
    assert "environment e: module load a; b" in text


def test_a_dollar_that_nothing_expands_is_warned_of(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"environments: {{e: {{env: {{A: 'x:${{A}}', B: '$$', C: '$1'}}}}}}\n{TASK}")
    assert [(one.code, "A" in one.what) for one in plan.warnings] == [("literal-dollar", True)]


def test_only_what_is_shared_is_in_the_text_that_shares() -> None:
    steps = Steps("e", "", "echo own\n")
    assert "/proc/self/fd/3" not in bash_text(steps, (), is_shared=True)
    assert "/proc/self/fd/3" not in bash_text(Steps("e", "a\n", ""), (), is_shared=False)
    assert "/proc/self/fd/3" in bash_text(Steps("e", "a\n", ""), ("N",), is_shared=True)


def test_the_failure_of_a_log_is_its_last_one_with_its_output() -> None:
    text = (
        "[environment e] module load a\nLoading a\n[environment e] module load b\nERROR: b\n\n"
        "[environment e] failed with status 3: module load b\n"
    )
    found = failure_in(text)
    assert found is not None
    assert (found.line, found.status, found.output, found.number) == ("module load b", 3, "ERROR: b", 5)
    assert failure_in("[environment e] module load b\n") is None
    bare = failure_in("[environment e] failed with status 1: env A\n")
    assert bare is not None
    assert bare.output == ""

"""Plans with inputs and outputs: edges, which copies a value is from, and what is refused with which words."""

from pathlib import Path

import pytest

from protocol.errors import FleetError
from protocol.messages.handover import FileSelection, OutputRule
from sflow_ctl.plan.model import Dependency, Plan, PlannedTask
from sflow_ctl.plan.results import InputSource, PlannedInput, PlannedWhen
from sflow_ctl.runtime.record.plan_file import decode_plan, encode_plan
from tests.unit.planner.planning import plan_of

TRAIN = """\
    train:
      script: [train]
      outputs: {ckpt: {path: "ckpt/*.pt"}, n: {type: int}, all: {kind: files, path: "*.csv"}}
"""


def workflow(tasks: str, head: str = "") -> str:
    return f"{head}workflow:\n  name: w\n  tasks:\n{TRAIN}{tasks}"


def named(plan: Plan) -> dict[str, PlannedTask]:
    return {task.name: task for task in plan.tasks}


def eval_of(folder: Path, inputs: str, more: str = "", head: str = "") -> PlannedTask:
    text = workflow(f"    eval:\n      script: [eval]\n      inputs: {inputs}\n{more}", head)
    return named(plan_of(folder, text))["eval"]


def problems(folder: Path, text: str) -> list[str]:
    try:
        plan_of(folder, text)
    except FleetError as error:
        return [f"{one.what}; {one.hint}" if one.hint else one.what for one in error.findings]
    raise AssertionError("it was planned")


# ---------------------------------------------------------------------- outputs


def test_outputs_are_a_mapping_or_a_list(tmp_path: Path) -> None:
    by_name = plan_of(tmp_path, workflow("")).tasks[0].found
    listed = workflow("").replace(
        '{ckpt: {path: "ckpt/*.pt"}, n: {type: int}, all: {kind: files, path: "*.csv"}}',
        '[{name: ckpt, path: ["ckpt/*.pt"]}, {name: n, type: int}, {name: all, kind: files, path: "*.csv"}]',
    )
    assert plan_of(tmp_path, listed).tasks[0].found == by_name
    assert [(one.name, one.kind, one.is_required) for one in by_name] == [
        ("ckpt", "file", True),
        ("n", "param", True),
        ("all", "files", False),
    ]


def test_values_of_lines_stay_beside_found_ones(tmp_path: Path) -> None:
    outputs = 'outputs: [{pattern: "r {r:d}"}, {name: ckpt, path: x}]'
    text = f"workflow:\n  name: w\n  tasks:\n    t:\n      script: [x]\n      {outputs}\n"
    (task,) = plan_of(tmp_path, text).tasks
    assert (len(task.outputs), [one.name for one in task.found]) == (1, ["ckpt"])


def test_every_field_of_an_output_is_planned(tmp_path: Path) -> None:
    output = (
        "outputs: {o: {path: 'a/${{ variables.X }}/*.pt', select: best, best: {path: m.json, key: v.l, mode: max, step: epoch}, "
        "required: false, max_files: '${{ 3 }}', stale: ok, store: copy, digest: false}}"
    )
    text = f"variables: {{X: 7}}\nworkflow:\n  name: w\n  tasks:\n    t:\n      script: [x]\n      {output}\n"
    (rule,) = plan_of(tmp_path, text).tasks[0].found
    assert rule.selection.globs == ("a/7/*.pt",)
    assert rule.best is not None
    assert (rule.best.key, rule.best.mode, rule.best.step) == ("v.l", "max", "epoch")
    assert (rule.is_required, rule.max_files, rule.takes_stale, rule.store, rule.has_digest) == (
        False, 3, True, "copy", False,
    )  # fmt: skip


def test_a_value_may_be_computed(tmp_path: Path) -> None:
    text = (
        "variables: {X: 7}\nworkflow:\n  name: w\n  tasks:\n    t:\n      script: [x]\n"
        "      outputs: {v: {value: '${{ variables.X + 1 }}', type: int}}\n"
    )
    (rule,) = plan_of(tmp_path, text).tasks[0].found
    assert rule == OutputRule(name="v", kind="value", selection=FileSelection(globs=()), type="int", value=8)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("{path: /a}", 'has the path "/a", which is absolute; paths are relative to the task\'s directory, and stay in it'),
        (
            "{path: ../a}",
            'has the path "../a", which leads out of it; paths are relative to the task\'s directory, and stay in it',
        ),
        ("{kind: files}", 'is a files and has no path; e.g. path: "ckpt/**/*.pt"'),
        ("{kind: dir, path: 'a*'}", 'is a dir, which is one path without a pattern; or use kind: files'),
        ("{kind: value}", 'is a value and has none; e.g. value: ${{ variables.N }}'),
        ("{kind: files, path: a, select: best}", 'is a files, for which select has no meaning; drop select, or change kind'),
        (
            "{kind: metric, path: a, json: 'a[b'}",
            'has a wrong json: "a[b" is not a path into a JSON document, like a.b[0].c',
        ),
        ("{path: a, type: int}", 'is a file, and has type int; leave it out: files have paths'),
        ("{type: int, default: x}", "has a default of another type: wanted int, got str 'x'; correct default or type"),
        ("{path: a, max_files: 0}", 'has max_files 0; 1 to 10000; a manifest or a dir may be better'),
        ("{path: a, best: {path: m, key: k}}", 'has `best`, which only counts with select: best; add select: best'),
        ("{default: 1, required: true}", 'is required and has a default, which is then used instead; drop one of them'),
    ],
)  # fmt: skip
def test_what_an_output_cannot_be(tmp_path: Path, output: str, text: str) -> None:
    document = f"workflow:\n  name: w\n  tasks:\n    t:\n      script: [x]\n      outputs: {{o: {output}}}\n"
    assert any(text in one for one in problems(tmp_path, document))


def test_two_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    document = "workflow:\n  name: w\n  tasks:\n    t:\n      script: [x]\n      outputs: {a: {path: x}, A: {path: y}}\n"
    assert (
        'task "t" has two outputs called "A"; rename one of them; case does not tell them apart'
        in problems(tmp_path, document)
    )


# ---------------------------------------------------------------------- inputs


def test_an_input_makes_its_task_wait(tmp_path: Path) -> None:
    task = eval_of(tmp_path, "{c: {from: train.outputs.ckpt}, n: {from: train.outputs.n}}")
    assert task.depends_on == (Dependency(task="train", until="completed"),)
    assert task.inputs[0] == PlannedInput(
        name="c",
        variable="INPUT_C",
        sources=(InputSource(text="train.outputs.ckpt", tasks=("train",), output="ckpt"),),
    )


def test_a_dependency_that_is_written_stays(tmp_path: Path) -> None:
    more = "      depends_on: [train]\n"
    task = eval_of(tmp_path, "{c: {from: train.outputs.ckpt}}", more)
    assert [one.until for one in task.depends_on] == ["available", "completed"]
    more = "      depends_on: [{task: train, until: completed}]\n"
    assert len(eval_of(tmp_path, "{c: {from: train.outputs.ckpt}}", more).depends_on) == 1


def test_inputs_that_wait_for_each_other_are_a_cycle(tmp_path: Path) -> None:
    text = (
        "workflow:\n  name: w\n  tasks:\n"
        "    a: {script: [x], outputs: {o: {path: x}}, inputs: {i: {from: b.outputs.o}}}\n"
        "    b: {script: [x], outputs: {o: {path: x}}, inputs: {i: {from: a.outputs.o}}}\n"
    )
    (found,) = problems(tmp_path, text)
    assert "cycle" in found.lower(), found


def test_every_field_of_an_input_is_planned(tmp_path: Path) -> None:
    task = eval_of(
        tmp_path,
        "{c: {from: train.outputs.ckpt, type: path, required: false, env: 'C_${{ variables.X }}', arg: --c, stage: copy}, "
        "p: {path: data/x}, v: '${{ variables.X + 1 }}', d: {from: train.outputs.n, default: 3, type: int}}",
        head="variables: {X: 7}\n",
    )
    first, path, value, default = task.inputs
    assert (first.variable, first.argument, first.stage, first.is_required) == ("C_7", "--c", "copy", False)
    assert path.path == "/ws/data/x"
    assert value.value == 8
    assert default.default == 3


def test_in_a_sweep_values_are_of_the_same_cell(tmp_path: Path) -> None:
    text = workflow(
        "    eval: {script: [e], inputs: {c: {from: train.outputs.ckpt}}}\n"
        "    report: {script: [r], sweep: false, inputs: {c: {from: eval.outputs.o}}}\n",
        "variables: {lr: 0.1}\nsweep: {axes: {lr: [1, 2]}}\n",
    ).replace("    eval: {script: [e], ", "    eval: {script: [e], outputs: {o: {path: x}}, ")
    plan = named(plan_of(tmp_path, text))
    assert plan["eval_lr-1"].inputs[0].sources[0].tasks == ("train_lr-1",)
    assert plan["eval_lr-2"].inputs[0].sources[0].tasks == ("train_lr-2",)
    assert not plan["eval_lr-1"].inputs[0].sources[0].is_list
    last = plan["report"].inputs[0].sources[0]
    assert (last.tasks, last.is_list) == (("eval_lr-1", "eval_lr-2"), True)


def test_replicas_give_a_list_in_their_order(tmp_path: Path) -> None:
    text = workflow("    eval: {script: [e], inputs: {c: {from: train.outputs.ckpt, type: path}}}\n")
    text = text.replace("script: [train]", "script: [train]\n      replicas: 3")
    source = named(plan_of(tmp_path, text))["eval"].inputs[0].sources[0]
    assert (source.tasks, source.is_list) == (("train_0", "train_1", "train_2"), True)


def test_a_plan_with_inputs_is_read_back(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, workflow("    eval: {script: [e], inputs: {c: {from: train.outputs.ckpt}, l: [1, 2]}}\n")
    )
    assert decode_plan(b"".join(encode_plan(plan))) == plan


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ("{c: {from: train.outputs.ckp}}", ' is from output "ckp" of "train", which it does not have; did you mean "ckpt"?'),
        ("{c: {from: trian.outputs.ckpt}}", 'task "eval" depends on unknown task "trian"; did you mean "train"?'),
        ("{c: {from: train.ckpt}}", ' is from "train.ckpt", which is not an output; write TASK.outputs.NAME'),
        (
            "{c: {from: train.outputs.ckpt, type: int}}",
            ': wanted int, and train.outputs.ckpt is a path; correct the type of one of them',
        ),
        (
            "{c: {from: train.outputs.all, type: path}}",
            ': wanted path, and train.outputs.all is a paths; correct the type of one of them',
        ),
        ("{c: {}}", ' needs exactly one of from, path and value, found none; e.g. from: TASK.outputs.NAME'),
        (
            "{c: {path: a, value: 1}}",
            ' needs exactly one of from, path and value, found path and value; e.g. from: TASK.outputs.NAME',
        ),
        ("{c: {value: x, type: int}}", " has a value of another type: wanted int, got str 'x'; correct value or type"),
        (
            "{c: {value: '${{ variables.X }}', type: list}}",
            ' has a value of another type: wanted list, got int 7; correct value or type',
        ),
        ("{args: 1}", '"args" of task "eval" cannot be the name of an input; inputs.args has another meaning in expressions'),
        (
            "{a: 1, A: 2}",
            'inputs "a" and "A" of task "eval" would be one variable, INPUT_A; give one of them an env of its own',
        ),
        ("{a: {value: 1, env: SFLOW_X}}", ' has the env "SFLOW_X", which is a reserved name; e.g. CKPT'),
        ("{a: {value: 1, env: 1x}}", ' has the env "1x", which cannot be the name of a variable; e.g. CKPT'),
        ("{a: {value: 1, stage: copy}}", ' has stage, which is for files; drop stage'),
        ("{a: {value: 1, default: 2}}", ' has a value, so its default is never used; drop default'),
        (
            "{a: {from: [train.outputs.n, train.outputs.ckpt]}}",
            ' has several sources; add pick: first_available, or make an input of each',
        ),
    ],
)  # fmt: skip
def test_what_an_input_cannot_be(tmp_path: Path, inputs: str, text: str) -> None:
    document = workflow(f"    eval: {{script: [e], inputs: {inputs}}}\n", "variables: {X: 7}\n")
    assert any(text in one for one in problems(tmp_path, document))


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("${{ inputs.d }}", 'task "eval" uses the input "d", which it does not have; did you mean "c"?'),
        (
            "${{ inputs.c.arg }}",
            'task "eval" uses inputs.c.arg, which is called inputs.arg.c; inputs.args has those of all inputs',
        ),
    ],
)  # fmt: skip
def test_expressions_name_inputs_that_exist(tmp_path: Path, script: str, text: str) -> None:
    document = workflow(f"    eval: {{script: ['{script}'], inputs: {{c: 1}}}}\n")
    (found,) = problems(tmp_path, document)
    assert found.startswith(text.partition(";")[0])


def test_an_input_is_too_late_for_resources(tmp_path: Path) -> None:
    document = workflow(
        "    eval: {script: [e], inputs: {c: 1}, resources: {gpus: {count: '${{ inputs.c }}'}}}\n"
    )
    assert problems(tmp_path, document) == [
        'task "eval" uses its inputs in ${{ inputs.c }}, and they are known only when it starts; they can be used in its script, '
        "variables, files, probes and uploads"
    ]


def test_services_have_no_outputs_to_hand_over(tmp_path: Path) -> None:
    text = workflow("    eval: {script: [e], inputs: {c: {from: train.outputs.ckpt}}}\n")
    text = text.replace("script: [train]", "script: [train]\n      kind: service")
    assert problems(tmp_path, text)[0].startswith('input "c" of task "eval" is from "train", a service')


def test_an_option_that_no_script_uses_is_warned_of(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, workflow("    eval: {script: [e], inputs: {c: {value: 1, arg: --c}}}\n"))
    (warning,) = [one for one in plan.warnings if one.code == "unused-key"]
    assert warning.what == 'arg of input "c" of task "eval" has no effect: nothing in it uses inputs.args'


# ---------------------------------------------------------------------- conditions


def when_of(folder: Path, when: str, more: str = "") -> PlannedTask:
    text = workflow(f"    eval:\n      script: [e]\n      when: {when}\n{more}", "variables: {X: 7}\n")
    return named(plan_of(folder, text))["eval"]


def test_a_condition_that_is_known_is_decided_when_planning(tmp_path: Path) -> None:
    assert when_of(tmp_path, "${{ variables.X > 5 }}").when is None
    assert when_of(tmp_path, "true").when is None
    assert when_of(tmp_path, "${{ variables.X > 9 }}").when == PlannedWhen(
        text="${{ variables.X > 9 }}", value=False
    )


def test_a_condition_on_outputs_is_decided_when_they_are_there(tmp_path: Path) -> None:
    more = "      depends_on: [{task: train, until: completed}]\n"
    when = when_of(tmp_path, "${{ task.train.outputs.n > 3 and variables.X == 7 and 'x' != X }}", more).when
    assert when is not None
    assert when.value is None
    assert when.operands == ("task.train.outputs.n", "variables.X", "X")
    more = "      inputs: {n: {from: train.outputs.n, type: int}}\n"
    when = when_of(tmp_path, "${{ inputs.n > 3 }}", more).when
    assert when is not None
    assert when.operands == ("inputs.n",)


@pytest.mark.parametrize(
    ("when", "text"),
    [
        ("${{ variables.X }}", 'task "eval": its condition `when` must be true or false, is int 7'),
        ("maybe", "task \"eval\": its condition `when` must be true or false, is str 'maybe'"),
        (
            "${{ inputs.n }} and ${{ inputs.n }}",
            'task "eval": its condition `when` is a text with expressions in it: ${{ inputs.n }} and ${{ inputs.n }}; '
            "put all of it into one ${{ ... }}",
        ),
        ("${{ inputs.m }}", 'task "eval" uses the input "m", which it does not have'),
    ],
)
def test_what_a_condition_cannot_be(tmp_path: Path, when: str, text: str) -> None:
    inputs = "      inputs: {n: {from: train.outputs.n}}\n"
    document = workflow(f"    eval:\n      script: [e]\n      when: {when}\n{inputs}", "variables: {X: 7}\n")
    assert any(text in one for one in problems(tmp_path, document))


def test_an_input_that_may_be_missing_waits_until_its_task_is_settled(tmp_path: Path) -> None:
    for given in ("default: x", "required: false"):
        task = eval_of(tmp_path, f"{{c: {{from: train.outputs.ckpt, {given}}}}}")
        assert [one.until for one in task.depends_on] == ["settled"]
    both = "{c: {from: train.outputs.ckpt, default: x}, n: {from: train.outputs.n}}"
    assert [one.until for one in eval_of(tmp_path, both).depends_on] == ["completed"]
    picked = "{c: {from: [train.outputs.ckpt, train.outputs.n], pick: first_available}}"
    assert [one.until for one in eval_of(tmp_path, picked).depends_on] == ["settled"]

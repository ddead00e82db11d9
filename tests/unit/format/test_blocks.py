"""What is refused of blocks and loops, with which words and where."""

from pathlib import Path

import pytest

from protocol.errors import FleetError
from sflow_ctl.format.loader import load_documents
from sflow_ctl.format.merged.blocks import as_written
from sflow_ctl.planner.show.text import plan_text
from tests.unit.planner.planning import findings_of, plan_of

HEAD = """\
version: "0.1"
workflow:
  name: w
  blocks:
    step:
      inputs: {n: int, m: {type: str, default: x}}
      outputs: {n: "${{ task.a.outputs.n }}"}
      tasks:
        a: {script: [x], outputs: {n: {type: int}}}
        b: {depends_on: a, script: ["${{ task.a.outputs.n }}"], inputs: {v: {from: a.outputs.n}}}
"""


def findings(folder: Path, tasks: str, head: str = HEAD) -> list[str]:
    path = folder / "w.yaml"
    path.write_text(f"{head}  tasks:\n{tasks}")
    try:
        load_documents([path])
    except FleetError as error:
        return [f"{one.what} [{(one.where or '').partition('  ')[2]}]" for one in error.findings]
    raise AssertionError("it was loaded")


def test_tasks_of_a_block_name_each_other(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(f"{HEAD}  tasks:\n    use: {{block: step, with: {{n: 1}}}}\n")
    loaded = load_documents([path])
    tasks = {task.name: task for task in loaded.document.workflow.tasks}
    assert list(tasks) == ["use", "step~a", "step~b"]
    inner = tasks["step~b"]
    assert inner.script == ["${{ task['step~a'].outputs.n }}"]
    assert inner.depends_on == ["step~a"]
    assert inner.inputs["v"].source == ["step~a.outputs.n"]
    composed = loaded.composed_data()["workflow"]
    assert [task["name"] for task in composed["tasks"]] == ["use"]
    assert set(composed["blocks"][0]["tasks"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (
            "{block: stop, with: {n: 1}}",
            'stands for block "stop", which there is not [workflow.tasks.use.block]',
        ),
        ("{block: step}", 'does not give block "step" its input "n" [workflow.tasks.use.with]'),
        (
            "{block: step, with: {n: 1, k: 2}}",
            'the input "k", which it does not have [workflow.tasks.use.with.k]',
        ),
        ("{block: step, with: {n: 1}, script: [x], retries: 2}", "stands for a block, and has retries"),
        (
            "{script: [x], loop: {max_iterations: 2}}",
            "has loop, which repeats a block [workflow.tasks.use.loop]",
        ),
        (
            "{block: step, with: {n: 1}, loop: {max_iterations: 2, carry: {k: 1}}}",
            'carries "k", which is not an input of block "step" [workflow.tasks.use.loop.carry.k]',
        ),
        (
            "{block: step, with: {n: 1}, loop: {max_iterations: 2, until: '${{ last.outputs.z }}'}}",
            'uses last.outputs.z, which block "step" does not have [workflow.tasks.use.loop.until]',
        ),
        ("{block: step, with: {n: 1}, loop: {until: x}}", '"max_iterations" is missing'),
    ],
)
def test_a_wrong_use_of_a_block_is_refused(tmp_path: Path, task: str, problem: str) -> None:
    found = findings(tmp_path, f"    use: {task}\n")
    assert any(problem in one for one in found), found


def test_a_block_that_contains_itself_is_refused_with_its_path(tmp_path: Path) -> None:
    more = "        again: {block: other, with: {}}\n    other:\n      tasks:\n        back: {block: step, with: {n: 1}}\n"
    found = findings(tmp_path, "    use: {block: step, with: {n: 1}}\n", HEAD + more)
    assert any("block other contains itself: other -> step -> other" in one for one in found), found


def test_a_service_is_not_a_task_of_a_block(tmp_path: Path) -> None:
    more = "        server: {kind: service, script: [x]}\n"
    (found,) = findings(tmp_path, "    use: {block: step, with: {n: 1}}\n", HEAD + more)
    assert "of a block is a service" in found


BLOCK = """\
workflow:
  name: w
  blocks:
    fit:
      inputs: {n: int}
      outputs: {m: "${{ task.one.outputs.m }}"}
      tasks:
        one: {script: echo, outputs: {m: {type: int}}}
        other:
          inputs: {x: {from: one.outputs.q}}
          depends_on: [nope]
          script: echo ${{ task.one.outputs.m }}
  tasks:
    all: {block: fit, with: {n: 1}}
"""


def test_messages_name_tasks_of_blocks_as_the_file_does(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(f'version: "0.1"\n{BLOCK}')
    with pytest.raises(FleetError) as caught:
        load_documents([path])
    (finding,) = caught.value.findings
    assert finding.what == 'task "other" of block "fit" depends on unknown task "nope"'
    assert finding.hint == "tasks here: all, one of block fit, other of block fit"
    findings = findings_of(tmp_path, BLOCK.replace("[nope]", "[one]"))
    assert (
        'input "x" of task "other" of block "fit" is from output "q" of "one" of block "fit"'
        in findings[0].what
    )
    plan = plan_of(tmp_path, BLOCK.replace("[nope]", "[one]").replace("outputs.q", "outputs.m"))
    text = plan_text(plan)
    assert "~" not in text
    assert "echo ${{ task.one.outputs.m }}" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('task "fit~a" waits', 'task "a" of block "fit" waits'),
        ("${{ task['fit~a'].outputs.m }}", "${{ task.a.outputs.m }}"),
        ("${{ task['fit~a-b'].outputs.m }}", "${{ task['a-b'].outputs.m }}"),
        ("x, fit~a, p.fit~b", "x, a of block fit, b of block p.fit"),
        ("other~a and ~/fit and dir/fit~a", "other~a and ~/fit and dir/fit~a"),
    ],
)
def test_what_is_shown_of_a_name(text: str, shown: str) -> None:
    assert as_written(text, ["fit", "p.fit"]) == shown

"""Expressions that are evaluated when their task starts: what they may take, and that nothing else waits for them."""

from pathlib import Path

from sflow_ctl.core.events import TextsRendered
from tests.support import Run

HEAVY = "{% set n = namespace(x=0) %}{% for i in range(30000) %}{% set n.x = n.x + i %}{% endfor %}"
"""Most of what one expression may take."""
FILES = ", ".join(f'f{number}: "{HEAVY}${{{{ task.a.outputs.n }}}} {number}"' for number in range(3))
BESIDE = f"""
version: "0.1"
workflow:
  name: w
  tasks:
    - {{name: a, script: [echo n=7], outputs: [{{pattern: "n={{n:d}}"}}]}}
    - name: heavy
      depends_on: [a]
      files: {{{FILES}}}
      script: ["test \\"$(cat $SFLOW_TASK_OUTPUT_DIR/f2)\\" = '7 2'"]
    - {{name: b0, depends_on: [a], script: ["true"]}}
    - {{name: b1, depends_on: [b0], script: ["true"]}}
    - {{name: b2, depends_on: [b1], script: ["true"]}}
"""


def test_tasks_start_and_end_while_expressions_are_evaluated(tmp_path: Path) -> None:
    run = Run.start(BESIDE, tmp_path)
    status, said = run.finish()
    assert status == 0, said
    changes: list[str] = []
    for entry in run.entries():
        if entry.transition is not None:
            changes.append(f"{entry.transition.task} {entry.transition.new}")
        elif isinstance(entry.event, TextsRendered):
            changes.append("rendered")
    began, ended = changes.index("heavy starting"), changes.index("rendered")
    meanwhile = [one for one in changes[began:ended] if one.startswith("b")]
    assert "b0 completed" in meanwhile, changes


TOO_MUCH = """
version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: [echo n=7], outputs: [{pattern: "n={n:d}"}]}
    - name: b
      depends_on: [a]
      files: {f: "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}${{ task.a.outputs.n }}"}
      script: [cat f]
"""


def test_an_expression_that_computes_too_much_names_the_file_and_the_line(tmp_path: Path) -> None:
    run = Run.start(TOO_MUCH, tmp_path)
    assert run.finish()[0] == 1
    (reason,) = [one.reason for one in run.summary().tasks if one.name == "b"]
    assert "an expression computes too much" in reason
    assert "r.yaml:7:7  workflow.tasks[1].files.f" in reason


TOO_LARGE = """
version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: [echo n=9], outputs: [{pattern: "n={n:d}"}]}
    - name: b
      depends_on: [a]
      script: ["echo ${{ 'x' * 1000000 * task.a.outputs.n }} ${{ 'x' * 1000000 * task.a.outputs.n }}"]
"""


def test_values_that_make_an_order_too_large_are_refused_before_they_are_filled_in(tmp_path: Path) -> None:
    run = Run.start(TOO_LARGE, tmp_path)
    assert run.finish()[0] == 1
    (reason,) = [one.reason for one in run.summary().tasks if one.name == "b"]
    assert "may have 10000000; the longest value has 9000000" in reason

"""How a plan is shown: text, graphs, JSON."""

import json
from pathlib import Path

from sflow_ctl.planner.show.graph_text import dot, mermaid
from sflow_ctl.planner.show.plan_json import to_json
from sflow_ctl.planner.show.text import plan_text, start_order
from tests.unit.planner.planning import plan_of
from tests.unit.planner.shown import demo


def test_mermaid_has_a_box_per_task_as_written(tmp_path: Path) -> None:
    assert mermaid(demo(tmp_path)) == (
        "flowchart TD\n"
        "    start([start])\n"
        "    stop([stop])\n"
        '    task0["start<br>2 GPUs"]\n'
        '    task1["load<br>5 × (load_0, load_1, load_2, ... load_4)"]\n'
        '    task2["check"]\n'
        "    start --> task0\n"
        "    task0 -->|Ready| task1\n"
        "    task1 -->|Completed| task2\n"
        "    task2 -->|Completed| stop\n"
    )


def test_dot_quotes_names_and_values(tmp_path: Path) -> None:
    text = dot(demo(tmp_path), show_variables=True)
    assert text.startswith('digraph "demo" {\n')
    assert '    task0 [label="start\\n2 GPUs"];\n' in text
    assert '    task0 -> task1 [label="Ready"];\n' in text
    assert '    variables [shape=note, label="PORT = 9000"];\n' in text
    assert text.endswith("}\n")


def test_the_order_shown_puts_tasks_after_their_dependencies(tmp_path: Path) -> None:
    assert start_order(demo(tmp_path)) == ["start", "load", "check"]


def test_the_text_ends_with_the_formats_last_line(tmp_path: Path) -> None:
    text = plan_text(demo(tmp_path))
    assert "    │  GPU 0: start\n" in text
    assert "    │  GPU 2: .\n" in text
    assert "  load_1  <- load_0 (Completed)\n" in text
    assert "  load_0  <- start (Ready)\n" in text
    assert 'echo "<3>"' in text
    assert text.endswith("✓ Configuration is valid")


def test_json_has_the_fields_that_tools_need(tmp_path: Path) -> None:
    plan = json.loads(json.dumps(to_json(demo(tmp_path))))
    assert list(plan) == [
        "workflow",
        "timeout_s",
        "success",
        "variables",
        "artifacts",
        "nodes",
        "tasks",
        "sweeps",
        "monitors",
        "notes",
        "warnings",
    ]
    server, load = plan["tasks"][0], plan["tasks"][2]
    assert server["cuda_visible_devices"] == "0,1"
    assert server["nodes"] == ["localhost"]
    assert server["probes"][0]["tcp_port"] == 9000
    assert server["argv"] == ["bash", "-c", "serve"]
    assert load["depends_on"] == ["load_0"]
    assert load["conditions"] == [{"task": "load_0", "until": "completed"}]
    assert load["script"] == 'echo "<1>"'
    assert load["retries"] == {
        "count": 1, "interval_s": 2.0, "backoff": 1.0, "max_interval_s": None, "reasons": None,
        "transient_codes": [75], "fatal_codes": [64, 78], "infra_count": 2, "total_s": None,
        "queue_s": None, "avoids_nodes": True,
    }  # fmt: skip
    assert load["env"]["SFLOW_REPLICA_INDEX"] == "1"
    assert plan["timeout_s"] == 600


def test_ux_15_the_first_of_many_replicas_stands_for_all(tmp_path: Path) -> None:
    text = """workflow:
  name: w
  tasks:
    - {name: worker, replicas: 200, script: [x]}
    - {name: seq, replicas: {count: 7, policy: sequential}, depends_on: worker, script: [x]}
    - {name: few, replicas: 2, script: [x]}
"""
    lines = plan_text(plan_of(tmp_path, text)).split("\n")
    assert "Workflow w: 209 tasks on 1 node" in lines
    assert "  worker × 200" in lines
    assert "  few_0" in lines
    assert "  few_1" in lines
    assert "  seq × 7, one after the other  <- worker × 200 (Completed)" in lines
    assert "  worker × 200: worker_1 to worker_199 are alike" in lines
    assert sum(line.startswith("  worker_0  [") for line in lines) == 1
    assert not any(line.startswith("  worker_1  [") for line in lines)


def test_a_plan_says_which_block_runs_and_shows_its_tasks(tmp_path: Path) -> None:
    text = """
workflow:
  name: w
  blocks:
    fit:
      inputs: {rate: float, tag: {type: str, default: x}}
      outputs: {loss: "${{ task.train.outputs.loss }}"}
      tasks:
        train: {script: [echo training], outputs: {loss: {type: float}}}
  tasks:
    once: {block: fit, with: {rate: 0.5}}
    often:
      block: fit
      with: {rate: 1}
      loop: {max_iterations: 7, until: "${{ last.outputs.loss < 1 }}", carry: {rate: "${{ last.outputs.loss }}"}}
"""
    lines = plan_text(plan_of(tmp_path, text)).splitlines()
    assert lines[lines.index("  once  [block]") + 1] == "    block:     fit; rate: 0.5"
    often = lines.index("  often  [block]")
    assert lines[often + 1 : often + 4] == [
        "    block:     fit; rate: 1",
        "    loop:      7 iterations at most, until ${{ last.outputs.loss < 1 }}; fails then",
        "    carry:     rate: ${{ last.outputs.loss }}",
    ]
    block = lines.index("Block fit: takes rate (float), tag (str); gives loss")
    assert lines[block + 1 : block + 4] == [
        "  train  [bash, localhost]",
        "    script:",
        "      echo training",
    ]

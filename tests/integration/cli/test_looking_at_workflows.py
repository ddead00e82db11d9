"""`plan`, `compose`, `visualize` and `schema`: they show, and make nothing but the file they are asked for."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support import EXAMPLES, sflow_ctl

WORKERS = str(EXAMPLES / "gpu_workers.yaml")


def test_plan_and_dry_run_print_the_same(tmp_path: Path) -> None:
    planned = sflow_ctl("plan", WORKERS, cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout == sflow_ctl("run", "--dry-run", WORKERS, cwd=tmp_path).stdout
    assert list(tmp_path.iterdir()) == []


def test_plan_for_programs_names_nodes_gpus_and_dependencies(tmp_path: Path) -> None:
    done = sflow_ctl("plan", "--json", WORKERS, cwd=tmp_path)
    plan = json.loads(done.stdout)
    tasks = {task["name"]: task for task in plan["tasks"]}
    assert plan["workflow"] == "gpu_workers"
    assert tasks["worker_3"]["nodes"] == ["localhost-1"]
    assert str(tasks["worker_3"]["cuda_visible_devices"]) == "1"
    assert [d if isinstance(d, str) else d["task"] for d in tasks["check"]["depends_on"]] == [
        f"worker_{i}" for i in range(4)
    ]


def test_plan_for_another_fleet(tmp_path: Path) -> None:
    done = sflow_ctl("plan", WORKERS, "--nodes", "1", "--gpus-per-node", "4", cwd=tmp_path)
    assert "GPU 3: worker_3" in done.stdout


def test_compose_merges_files_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text('version: "0.1"\nvariables: {EXTRA: 1}\n')
    hello = str(EXAMPLES / "hello.yaml")
    done = sflow_ctl("compose", hello, "more.yaml", "--set", "WHO=fleet", "-o", "all.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ran = sflow_ctl("run", "all.yaml", cwd=tmp_path)
    assert "hello, fleet, from" in ran.stdout, ran.stderr


def test_compose_resolves_expressions_with_a_certain_value(tmp_path: Path) -> None:
    done = sflow_ctl("compose", "--resolve", str(EXAMPLES / "diamond.yaml"), cwd=tmp_path)
    assert "prepared 6 samples" in done.stdout


def test_visualize_prints_text(tmp_path: Path) -> None:
    mermaid = sflow_ctl("visualize", str(EXAMPLES / "redis.yaml"), cwd=tmp_path).stdout
    assert mermaid.startswith("flowchart TD")
    assert "Ready" in mermaid
    dot = sflow_ctl("visualize", "--format", "dot", WORKERS, cwd=tmp_path).stdout
    assert dot.startswith("digraph")


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_visualize_draws_a_picture(tmp_path: Path) -> None:
    done = sflow_ctl("visualize", "--format", "svg", "-o", "graph.svg", WORKERS, cwd=tmp_path)
    assert done.stdout == "✓ Saved to graph.svg\n", done.stderr
    assert b"<svg" in (tmp_path / "graph.svg").read_bytes()


def test_a_picture_needs_a_file(tmp_path: Path) -> None:
    done = sflow_ctl("visualize", "--format", "png", WORKERS, cwd=tmp_path)
    assert done.returncode == 2
    assert "error[output-missing]" in done.stderr


def test_the_schema_is_the_shipped_one(tmp_path: Path) -> None:
    done = sflow_ctl("schema", cwd=tmp_path)
    assert json.loads(done.stdout)["$defs"]["Task"]


def test_bad_files_are_findings_here_too(tmp_path: Path) -> None:
    for command in ("plan", "compose", "visualize"):
        done = sflow_ctl(command, "nowhere.yaml", cwd=tmp_path)
        assert done.returncode == 2
        assert "error[file-not-found]" in done.stderr


def test_ux_10_plan_says_that_gpus_are_simulated_unless_that_is_asked_for(tmp_path: Path) -> None:
    said = sflow_ctl("plan", WORKERS, cwd=tmp_path, env={"SFLOW_SIMULATE_GPUS": "0"}).stdout
    assert "4 GPUs are simulated" in said
    assert "[simulated-gpus]" in said
    for asked in (("--simulate-gpus",), ()):
        given = {"SFLOW_SIMULATE_GPUS": "0" if asked else "1"}
        done = sflow_ctl("plan", WORKERS, *asked, cwd=tmp_path, env=given)
        assert done.returncode == 0
        assert "simulated" not in done.stdout


@pytest.mark.parametrize("command", ["plan", "run", "batch", "compose", "visualize"])
def test_a_sheet_is_no_workflow_file(command: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("sflow_config_file,A\nw.yaml,1\n")
    done = sflow_ctl(command, "jobs.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error[sheet-as-workflow]: jobs.csv is a sheet, not a workflow file")
    assert "-b jobs.csv" in done.stderr

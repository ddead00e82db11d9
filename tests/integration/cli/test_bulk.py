"""`batch -b`, `batch -B` and `compose -b`: many at once, and reports of those that fail."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cli.test_batch import LOCAL, SLURM, directives, stand_in
from tests.support import sflow_ctl

SHEET = """sflow_config_file,NODES,job_name
base.yaml tasks/a.yaml,2,
base.yaml tasks/a.yaml,1,too small
base.yaml tasks/b.yaml,4,
"""
TASKS = 'version: "0.1"\nworkflow: {tasks: [{name: t, script: [x], resources: {gpus: {count: 8}}}]}\n'


def sheet(tmp_path: Path, text: str = SHEET) -> None:
    """A sheet and its files, in a directory of their own."""
    folder = tmp_path / "in"
    (folder / "tasks").mkdir(parents=True)
    (folder / "base.yaml").write_text(
        SLURM.replace("  tasks: [{name: a, script: [x], resources: {gpus: {count: 8}}}]\n", "")
    )
    (folder / "tasks" / "a.yaml").write_text(TASKS)
    (folder / "tasks" / "b.yaml").write_text(TASKS)
    (folder / "s.csv").write_text(text, encoding="utf-8-sig")


def results(directory: Path) -> list[dict[str, str]]:
    """Return the content of results.csv."""
    with (directory / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_row_is_a_job_and_a_bad_one_does_not_stop_the_others(tmp_path: Path) -> None:
    sheet(tmp_path)
    env = stand_in(tmp_path / "bin", "sbatch", 'echo "$2" >> "$0.log"; wc -l < "$0.log"')
    done = sflow_ctl("batch", "-b", "in/s.csv", "--submit", cwd=tmp_path, env=env)
    assert done.returncode == 1
    assert "✗ too_small_002: in/s.csv:3  row 2\nerror[gpus-do-not-fit]" in done.stderr
    (directory,) = (tmp_path / "sflow_output").glob("bulk_input_*")
    assert sorted(path.name for path in directory.iterdir()) == [
        "results.csv",
        "tasks_a_2_001.sh",
        "tasks_a_2_001.yaml",
        "tasks_b_4_003.sh",
        "tasks_b_4_003.yaml",
    ]
    output = f"{tmp_path}/sflow_output"
    assert [(row["slurm_job_id"], row["sflow_output_dir"], row["status"]) for row in results(directory)] == [
        ("1", f"{output}/1-*", "submitted"),
        ("FAILED", "", "failed"),
        ("2", f"{output}/2-*", "submitted"),
    ]
    script = (directory / "tasks_b_4_003.sh").read_text()
    assert {"--job-name=tasks_b_4_003", "--nodes=4"} <= set(directives(script))
    assert f"--file {directory}/tasks_b_4_003.yaml \\\n" in script
    assert "--set" not in script


def test_rows_that_ask_for_the_same_are_one_array(tmp_path: Path) -> None:
    first, second = "base.yaml tasks/a.yaml", "base.yaml tasks/b.yaml"
    rows = f"{first},2,one\n{first},1,small\n{second},4,big\n{second},2,two\n"
    sheet(tmp_path, f"sflow_config_file,NODES,job_name\n{rows}")
    env = stand_in(tmp_path / "bin", "sbatch", 'echo "$2" >> "$0.log"; echo $((70 + $(wc -l < "$0.log")))')
    words = ("batch", "-b", "in/s.csv", "--submit", "--array", "--at-once", "2", "-J", "sweep")
    done = sflow_ctl(*words, cwd=tmp_path, env=env)
    assert done.returncode == 1  # the second row fits nowhere
    assert "✗ small_002: in/s.csv:3  row 2\nerror[gpus-do-not-fit]" in done.stderr
    (directory,) = (tmp_path / "sflow_output").glob("bulk_input_*")
    output = f"{tmp_path}/sflow_output"
    assert [(row["slurm_job_id"], row["sflow_output_dir"]) for row in results(directory)] == [
        ("71_1", f"{output}/71_1-*"), ("FAILED", ""), ("72_3", f"{output}/72_3-*"), ("71_4", f"{output}/71_4-*")
    ]  # fmt: skip
    script = directory / "array_1.sh"
    assert {"--job-name=sweep", "--nodes=2", "--array=1,4%2"} <= set(directives(script.read_text()))
    assert "--array=3%2" in directives((directory / "array_2.sh").read_text())
    python = tmp_path / "python"  # in place of the program that runs the row
    python.write_text('#!/bin/sh\necho "$SFLOW_RUN_ID_PREFIX $*"\n')
    python.chmod(0o755)
    script.write_text(script.read_text().replace(f"exec {sys.executable}", f"exec {python}"))
    job = {**os.environ, "SLURM_ARRAY_JOB_ID": "71", "SLURM_ARRAY_TASK_ID": "4"}
    ran = subprocess.run(["bash", script], env=job, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.startswith("71_4 ")
    assert f"--file {directory}/two_004.yaml" in ran.stdout
    for more, said in (
        (("-b", "in/s.csv", "--array", "--chain", "2"), "--array has no chains"),
        (("-b", "in/s.csv", "--at-once", "2"), "--at-once is for arrays"),
        (("in/base.yaml", "--array"), "--array is for many rows or files"),
    ):
        refused = sflow_ctl("batch", *more, cwd=tmp_path, env=env)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr


@pytest.mark.parametrize("command", ["batch -b in/s.csv --output-dir out", "compose -b in/s.csv -o out"])
def test_clusters_minor_a_row_has_each_warning_once(tmp_path: Path, command: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "w.yaml").write_text(
        'version: "0.1"\nvariables: {V: 1}\n'
        "backends: {p: {type: slurm, account: a, partition: p, time: 5, nodes: 1, gpus_per_node: 0}}\n"
        "workflow:\n  name: w\n  tasks:\n    - {name: a, script: [x], replicas: {count: 2}, depends_on: [gone]}\n"
    )
    (tmp_path / "in" / "s.csv").write_text(
        "sflow_config_file,V,missable_tasks\nw.yaml,1,gone\nw.yaml,2,gone other\n"
    )
    done = sflow_ctl(*command.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "dependency on missing gone" in line]
    assert len(lines) == 2


def test_chosen_rows_with_files_from_the_command_line(tmp_path: Path) -> None:
    sheet(tmp_path)
    (tmp_path / "more.yaml").write_text('version: "0.1"\nvariables: {EXTRA: 1}\n')
    done = sflow_ctl(
        "batch", "more.yaml", "-b", "in/s.csv", "--row", "3", "-r", "-s", "NODES=9", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "row 3, column NODES: --set NODES=9 wins over the cell" in done.stderr
    (directory,) = (tmp_path / "sflow_output").glob("bulk_input_*")
    assert [row["status"] for row in results(directory)] == ["not submitted"]
    (row,) = results(directory)
    assert (row["sflow_batch_dir"], row["backend_job_id"]) == (directory.name, "not submitted")
    assert Path(row["composed_sflow_config"]).is_file()
    script = (directory / "tasks_b_4_003.sh").read_text()
    composed = (directory / "tasks_b_4_003.yaml").read_text()
    assert "EXTRA" in composed
    assert "nodes: 9" in composed
    assert "--nodes=9" in directives(script)
    assert "base.yaml" not in script


def test_the_file_decides_its_gpus_in_a_sheet(tmp_path: Path) -> None:
    sheet(tmp_path)
    done = sflow_ctl("batch", "-b", "in/s.csv", "--row", "1", "-G", "8", cwd=tmp_path)
    assert "the file's gpus_per_node 4 is used instead of -G 8" in done.stderr
    (script,) = (tmp_path / "sflow_output").glob("bulk_input_*/*.sh")
    assert "--gpus-per-node=4" in directives(script.read_text())


def test_a_column_of_nodes_that_is_not_a_variable(tmp_path: Path) -> None:
    sheet(tmp_path, SHEET.replace("NODES", "NUM_NODES"))
    done = sflow_ctl("batch", "-b", "in/s.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert "row 2" in done.stderr
    scripts = sorted((tmp_path / "sflow_output").glob("bulk_input_*/*.sh"))
    assert [script.name for script in scripts] == ["tasks_a_2n_001.sh", "tasks_b_4n_003.sh"]
    assert "--nodes=4" in directives(scripts[1].read_text())


def test_a_sheet_that_is_wrong_makes_nothing(tmp_path: Path) -> None:
    sheet(tmp_path, SHEET.replace("NODES", "NODE"))
    for words in (("batch", "-b", "in/s.csv"), ("compose", "-b", "in/s.csv")):
        done = sflow_ctl(*words, cwd=tmp_path)
        assert done.returncode == 2
        assert "where: in/s.csv:1  column NODE\n  hint:  did you mean" in done.stderr
    assert not (tmp_path / "sflow_output").exists()


def test_a_folder_is_a_job_for_each_workflow_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    long = "a" * 35
    for name, text in {
        f"{long}1.yaml": LOCAL,
        f"{long}2.yml": LOCAL,
        "sized.yaml": SLURM,
        "named.yaml": LOCAL.replace("SAY: hello", "SAY: hello, NUM_NODES: 3"),
        "values.yaml": "just: values\n",
        "notes.txt": 'version: "0.1"\n',
        "broken.yaml": "a: [\n",
    }.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    done = sflow_ctl("batch", "-B", "in", "-B", "in/s*.yaml", "-p", "p", "-A", "a", cwd=tmp_path)
    assert done.returncode == 1
    assert "✗ broken: in/broken.yaml\nerror[yaml-syntax]" in done.stderr
    (directory,) = (tmp_path / "sflow_output").glob("bulk_submit_*")
    lines = {row["job_name"]: row["status"] for row in results(directory)}
    assert lines == {
        "a" * 30: "not submitted",
        f"{'a' * 30}_2": "not submitted",
        "broken": "failed",
        "named": "not submitted",
        "sized": "not submitted",
    }
    nodes = {
        name: [
            line for line in directives((directory / f"{name}.sh").read_text()) if line.startswith("--nodes")
        ]
        for name in ("a" * 30, "named", "sized")
    }
    assert nodes == {"a" * 30: [], "named": ["--nodes=3"], "sized": ["--nodes=2"]}


def test_a_folder_without_workflows(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    done = sflow_ctl("batch", "-B", "in", cwd=tmp_path)
    assert done.returncode == 1
    assert "no workflow file in in" in done.stderr
    assert sflow_ctl("batch", "-B", "nowhere", cwd=tmp_path).returncode == 2


def test_compose_writes_a_file_for_each_row_into_an_existing_directory(tmp_path: Path) -> None:
    sheet(tmp_path, SHEET + "base.yaml tasks/gone.yaml,1,\n")
    (tmp_path / "out").mkdir()
    done = sflow_ctl("compose", "-b", "in/s.csv", "-o", "out", "-r", cwd=tmp_path)
    assert done.returncode == 1
    assert "✗ in/s.csv:5  row 4\nerror[file-not-found]" in done.stderr
    (directory,) = (tmp_path / "out").glob("compose_*")
    files = sorted(path.name for path in directory.iterdir())
    assert files == ["tasks_a_2_001.yaml", "tasks_b_4_003.yaml", "too_small_002.yaml"]
    planned = sflow_ctl("plan", directory / "tasks_b_4_003.yaml", cwd=tmp_path)
    assert planned.returncode == 0
    assert "pool-node3" in planned.stdout


def test_compose_needs_a_directory_for_rows(tmp_path: Path) -> None:
    sheet(tmp_path)
    (tmp_path / "file").write_text("")
    done = sflow_ctl("compose", "-b", "in/s.csv", "-o", "file", cwd=tmp_path)
    assert done.returncode == 2
    assert "file is a file" in done.stderr


def test_compose_validates_and_writes_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(SLURM)
    (tmp_path / "bad.yaml").write_text(SLURM.replace("count: 8", "count: 80"))
    good = sflow_ctl("compose", "-vl", "good.yaml", cwd=tmp_path)
    assert good.returncode == 0
    assert good.stderr == "✓ Configuration is valid\n"
    bad = sflow_ctl("compose", "--validate", "bad.yaml", "-o", "out.yaml", cwd=tmp_path)
    assert bad.returncode == 2
    assert "error[gpus-do-not-fit]" in bad.stderr
    assert (tmp_path / "out.yaml").exists()


def test_a_number_of_nodes_that_contradicts_the_sheet_is_an_error(tmp_path: Path) -> None:
    sheet(tmp_path, "sflow_config_file,NUM_NODES\nbase.yaml tasks/a.yaml,3\n")
    done = sflow_ctl("batch", "-b", "in/s.csv", "-N", "4", cwd=tmp_path)
    assert done.returncode == 1
    assert "error[other-node-count]: --nodes 4 and the row's 3 nodes" in done.stderr
    assert sflow_ctl("batch", "-b", "in/s.csv", "-N", "3", "-p", "p", "-A", "a", cwd=tmp_path).returncode == 0


def test_where_sflow_comes_from_has_no_effect(tmp_path: Path) -> None:
    sheet(tmp_path, "sflow_config_file,NUM_NODES\nbase.yaml tasks/a.yaml,3\n")
    options = (
        "--sflow-index-url",
        "https://index.example",
        "--sflow-source-path",
        "/src",
        "-p",
        "p",
        "-A",
        "a",
    )
    done = sflow_ctl("batch", "-b", "in/s.csv", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--sflow-index-url and --sflow-source-path have no effect" in done.stderr

"""Monitors on real agents: the files that a run leaves, and that a monitor never costs the run anything."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import ROOT, Run, sflow_ctl, wait_until

CASE = """version: "0.1"
workflow:
  name: monitor
  monitor: {interval: 500, scopes: {cpu: {}, memory: {interval: 1000}}}
  tasks:
    - {name: idle, script: ["sleep 2"]}
    - name: work
      depends_on: [idle]
      script: ["sleep 1; echo BEGIN; sleep 3; echo FINISH; sleep 1"]
      monitor:
        scopes: {cpu: {}}
        window: {start: BEGIN, end: {pattern: ["re:^FINI", DONE], select: last}}
"""
TIMELINE_HEADER = [
    "timestamp", "timestamp_iso", "node_id", "hostname", "resource_type", "resource_id",
    "metric_name", "metric_value", "metric_unit", "metric_text", "source_log",
]  # fmt: skip


def run(tmp_path: Path, workflow: str, *arguments: str, status: int = 0) -> Path:
    """Run a workflow to its end; return its directory."""
    (tmp_path / "w.yaml").write_text(workflow)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", *arguments, cwd=tmp_path)
    assert done.returncode == status, done.stdout + done.stderr
    return tmp_path / "sflow_output/r"


def files(directory: Path) -> set[str]:
    """The files of the monitors, without the raw ones."""
    found = (
        str(path.relative_to(directory))
        for path in (directory / "sflow_monitor").rglob("*")
        if path.is_file()
    )
    return {name.removeprefix("sflow_monitor/") for name in found if "/raw/" not in name}


def timeline(directory: Path, report: str) -> list[dict[str, str]]:
    with (directory / "sflow_monitor" / report / "timeline.csv").open(newline="") as file:
        table = csv.DictReader(file)
        rows = list(table)
        assert table.fieldnames == TIMELINE_HEADER
    return rows


def times(directory: Path, scope: str, node: int = 0) -> list[float]:
    """The times of a raw file, without its comments and errors."""
    (path,) = (directory / "sflow_monitor/raw").glob(f"{scope}_monitor_node_{node}_*.log")
    lines = (line for line in path.read_text().splitlines() if line[0] != "#" and ",ERROR," not in line)
    return [float(line.partition(",")[0]) for line in lines]


def test_the_case_of_the_specification(tmp_path: Path) -> None:
    directory = run(tmp_path, CASE)
    kinds = ("timeline.csv", "summary.csv", "timeline.svg")
    reports = ("lifecycle/workflow", "lifecycle/idle", "windowed/work")
    assert files(directory) == {f"{report}/{kind}" for report in reports for kind in kinds} | {
        "windowed/work/window.json"
    }
    window = json.loads((directory / "sflow_monitor/windowed/work/window.json").read_bytes())
    assert window["status"] == "matched"
    assert 2.9 <= window["duration_seconds"] < 3.5
    assert (window["start"]["line"], window["end"]["line"]) == ("BEGIN", "FINISH")
    assert window["end"]["matched_patterns"] == ["re:^FINI"]
    log = (directory / "work/work.log").read_bytes()
    assert log[window["end"]["byte_offset"] :].startswith(b"FINISH")
    cut = [float(row["timestamp"]) for row in timeline(directory, "windowed/work")]
    assert window["start"]["timestamp"] <= min(cut)
    assert max(cut) <= window["end"]["timestamp"]
    counted = Counter(row["metric_name"] for row in timeline(directory, "lifecycle/workflow"))
    assert counted["cpu_utilization_pct"] > counted["memory_used_pct"] >= 4
    overview = (directory / "sflow_monitor.log").read_text()
    assert "- windowed/work: nodes=localhost gpus=none scopes=cpu,memory window=matched" in overview
    assert (directory / "sflow_monitor.log").stat().st_mode & 0o777 == 0o600


WATCHED = """version: "0.1"
backends: {l: {type: local, nodes: 2, gpus_per_node: 2}}
workflow:
  name: w
  tasks:
    - {name: server, replicas: 2, resources: {gpus: 1, nodes: {count: 1}}, script: ["sleep 60"], kind: service}
    - name: client
      depends_on: [{task: server, until: started}]
      script: ['sleep 0.5; echo GO; until [ -e $SFLOW_WORKFLOW_OUTPUT_DIR/custom ]; do sleep 0.05; done; sleep 1; echo END']
      monitor:
        interval: 100
        resources: {used_by_tasks: server}
        window: {start: GO, end: END}
        scopes: {gpu: {fields: [index, utilization.gpu]}, network: {}, disk: {}, custom: {script: SCRIPT}}
        report: {format: [csv, svg, png]}
"""


def test_watched_tasks_with_simulated_gpus_on_two_nodes_and_a_script(tmp_path: Path) -> None:
    pid_file = tmp_path / "sflow_output/r/custom"
    text = WATCHED.replace("SCRIPT", f"'sleep 98765 & echo $! > {pid_file}; wait'")
    directory = run(tmp_path, text, "--simulate-gpus")
    report = "windowed/server__monitored_by__client"
    assert {"window.json", "summary.csv", "timeline.csv"} <= {
        name.rpartition("/")[2] for name in files(directory) if name.startswith(report)
    }
    gpus = [row for row in timeline(directory, report) if row["resource_type"] == "gpu"]
    assert {row["node_id"] for row in gpus} == {"0", "1"} or {row["resource_id"] for row in gpus} == {
        "0",
        "1",
    }
    assert {row["metric_text"] for row in gpus} == {"simulated"}
    assert {row["metric_name"] for row in gpus} == {"gpu_utilization_pct"}
    assert {float(row["metric_value"]) for row in gpus} == {100.0}
    summary = (directory / "sflow_monitor" / report / "summary.csv").read_text()
    assert "gpu (simulated),gpu_utilization_pct,%," in summary
    assert "GPUs     : simulated" in (directory / "sflow_monitor.log").read_text()
    pid = int(pid_file.read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the script of the monitor has ended")


def test_a_monitor_measures_only_while_its_task_runs(tmp_path: Path) -> None:
    text = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: ["sleep 1"], monitor: {interval: 100, scopes: {memory: {}}}}
    - {name: b, script: ["sleep 1.5"], depends_on: [a]}
"""
    directory = run(tmp_path, text)
    measured = times(directory, "memory")
    assert len(measured) >= 5
    assert measured[-1] - measured[0] < 1.5
    assert max(float(row["timestamp"]) for row in timeline(directory, "lifecycle/a")) <= measured[-1]


def test_a_short_task_is_measured_at_its_end_too(tmp_path: Path) -> None:
    text = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["sleep 0.6"], monitor: {}}]}\n'
    directory = run(tmp_path, text)
    assert len(times(directory, "cpu")) == 2


def test_options_add_monitors(tmp_path: Path) -> None:
    text = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["true"]}, {name: b, script: ["true"]}]}\n'
    directory = run(tmp_path, text, "--enable-workflow-monitor", "--enable-task-monitor", "a, b")
    assert {name.rpartition("/")[0] for name in files(directory)} == {
        "lifecycle/workflow",
        "lifecycle/a",
        "lifecycle/b",
    }
    done = sflow_ctl("run", "w.yaml", "--enable-task-monitor", "a,bb", cwd=tmp_path)
    assert done.returncode == 2
    assert 'refers to unknown task "bb"' in done.stderr


def test_the_window_of_a_retried_task_is_that_of_its_last_attempt(tmp_path: Path) -> None:
    text = """version: "0.1"
workflow:
  name: w
  tasks:
    - name: a
      retries: {count: 1, interval: 0}
      script: ['echo GO; [ -e tried ] && { sleep 0.5; echo END; exit 0; }; touch tried; sleep 0.3; exit 1']
      monitor: {interval: 100, scopes: {cpu: {}}, window: {start: GO, end: END}}
"""
    directory = run(tmp_path, text)
    window = json.loads((directory / "sflow_monitor/windowed/a/window.json").read_bytes())
    assert 0.4 <= window["duration_seconds"] < 1.5


def test_a_window_that_is_not_found_fails_nothing_and_says_why(tmp_path: Path) -> None:
    text = """version: "0.1"
workflow: {name: w, tasks: [{name: a, script: ["echo GO"], monitor: {window: {start: GO, end: NEVER}}}]}
"""
    directory = run(tmp_path, text)
    assert files(directory) == {"windowed/a/window_not_found.json"}
    found = json.loads((directory / "sflow_monitor/windowed/a/window_not_found.json").read_bytes())
    assert found["status"] == "unresolved"
    assert found["sources"][0]["error"] == "end marker not found after the selected start"
    assert "the window of windowed/a was not found" in (directory / "sflow.log").read_text()


def test_logs_on_the_node_have_windows_too(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    directory = run(tmp_path, CASE.replace("sleep 2", "true"), "--log-spool", str(spool))
    window = json.loads((directory / "sflow_monitor/windowed/work/window.json").read_bytes())
    assert window["status"] == "matched"


def test_readings_that_cannot_be_written_fail_nothing(tmp_path: Path) -> None:
    text = """version: "0.1"
workflow:
  name: w
  monitor: {interval: 100, scopes: {cpu: {}}}
  tasks:
    - {name: a, script: ['cd $SFLOW_WORKFLOW_OUTPUT_DIR; sleep 0.2; rm -rf sflow_monitor; touch sflow_monitor; sleep 2.5']}
"""
    directory = run(tmp_path, text)
    log = (directory / "sflow.log").read_text()
    assert "readings of monitors cannot be written" in log
    assert "run completed: exit status 0" in log


def test_an_interrupted_run_has_its_reports(tmp_path: Path) -> None:
    text = CASE.replace("sleep 2", "sleep 60").replace("500", "100")
    started = Run.start(text, tmp_path)
    started.wait_for("idle", "running")
    wait_until(lambda: list((started.directory / "sflow_monitor").glob("raw/cpu*")), "a reading is written")
    os.kill(started.process.pid, signal.SIGINT)
    status, _ = started.finish()
    assert status == 130
    assert {"lifecycle/workflow/timeline.csv", "lifecycle/idle/summary.csv"} <= files(started.directory)


def test_a_controller_that_lags_loses_no_reading(tmp_path: Path) -> None:
    text = """version: "0.1"
workflow: {name: w, monitor: {interval: 100, scopes: {memory: {}}}, tasks: [{name: a, script: ["sleep 8"]}]}
"""
    started = Run.start(text, tmp_path)
    started.wait_for("a", "running")
    wait_until(
        lambda: list((started.directory / "sflow_monitor").glob("raw/memory*")), "a reading is written"
    )
    os.kill(started.process.pid, signal.SIGSTOP)
    begin = wait_until(lambda: times(started.directory, "memory"), "times")[-1]
    deadline = begin + 5
    wait_until(lambda: wall_clock() > deadline, "the controller was stopped for a while")
    os.kill(started.process.pid, signal.SIGCONT)
    assert started.finish()[0] == 0
    measured = times(started.directory, "memory")
    assert measured[-1] > begin + 5
    assert max(later - earlier for earlier, later in pairwise(measured)) < 2
    assert measured == sorted(set(measured))


def wall_clock() -> float:
    """The clock of the readings."""
    import time

    return time.time_ns() / 1e9


def test_a_resumed_run_replaces_the_reports_of_what_it_runs_again(tmp_path: Path) -> None:
    text = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: ["sleep 0.3"], monitor: {interval: 100, scopes: {cpu: {}}}}
    - name: b
      depends_on: [a]
      script: ["echo GO; sleep 0.3; [ -e go ] && echo END"]
      monitor: {interval: 100, scopes: {cpu: {}}, window: {start: GO, end: END}}
"""
    directory = run(tmp_path, text, status=1)
    before = times(directory, "cpu")
    assert "windowed/b/window_not_found.json" in files(directory)
    (tmp_path / "go").touch()
    assert sflow_ctl("run", "--resume", directory, cwd=tmp_path).returncode == 0
    assert {"windowed/b/window.json", "lifecycle/a/summary.csv"} <= files(directory)
    assert "windowed/b/window_not_found.json" not in files(directory)
    after = times(directory, "cpu")
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_reports_of_a_resumed_run_cover_all_of_its_controllers(tmp_path: Path) -> None:
    text = """version: "0.1"
workflow:
  name: w
  monitor: {interval: 100, scopes: {cpu: {}}}
  tasks:
    - name: a
      script: ["echo GO; sleep 0.4; echo END"]
      monitor: {interval: 100, scopes: {cpu: {}}, window: {start: GO, end: END}}
    - {name: b, depends_on: [a], script: ["[ -e go ] || sleep 600"]}
"""
    one = Run.start(text, tmp_path)
    one.wait_for("b", "running")
    wait_until(lambda: len(times(one.directory, "cpu")) > 8, "readings beside b")
    one.kill_both()
    one.process.wait()
    one.kill()
    killed_at = wall_clock()
    (tmp_path / "go").touch()
    again = sflow_ctl("run", "--resume", one.directory, "--force", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    stamps = [float(row["timestamp"]) for row in timeline(one.directory, "lifecycle/workflow")]
    assert min(stamps) < killed_at - 0.4
    assert max(stamps) > killed_at
    of_a = [float(row["timestamp"]) for row in timeline(one.directory, "windowed/a")]
    assert 0 < max(of_a) - min(of_a) < 1.0, "the task did not run again"
    window = json.loads((one.directory / "sflow_monitor/windowed/a/window.json").read_bytes())
    assert window["status"] == "matched"
    overview = (one.directory / "sflow_monitor.log").read_text()
    assert [word for word in ("submit", "lost", "done") if word in overview] == ["submit", "lost", "done"]


def test_a_png_is_the_same_drawing(tmp_path: Path) -> None:
    try:
        import cairosvg  # noqa: F401
    except (ImportError, OSError) as error:  # the package, or the library that it needs
        pytest.skip(f"no cairosvg: {error}")
    text = """version: "0.1"
workflow: {name: w, tasks: [{name: a, script: ["sleep 0.3"], monitor: {report: {format: png}, scopes: {cpu: {}}}}]}
"""
    directory = run(tmp_path, text)
    assert files(directory) == {"lifecycle/a/timeline.png"}
    assert (directory / "sflow_monitor/lifecycle/a/timeline.png").read_bytes().startswith(b"\x89PNG")


def test_batch_passes_the_options_on(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nbackends: {p: {type: slurm, account: a, partition: p, time: 10, nodes: 1, gpus_per_node: 0}}\n'
        'workflow: {name: w, tasks: [{name: a, script: ["true"]}, {name: b, script: ["true"]}]}\n'
    )
    done = sflow_ctl(
        "batch", "w.yaml", "--enable-workflow-monitor", "--enable-task-monitor", "a b", cwd=tmp_path
    )
    assert "--enable-workflow-monitor" in done.stdout
    assert "--enable-task-monitor a,b" in done.stdout
    refused = sflow_ctl("batch", "w.yaml", "--enable-task-monitor", "c", cwd=tmp_path)
    assert (refused.returncode, 'refers to unknown task "c"' in refused.stderr) == (2, True)


WITHOUT = """
import os, sys
def note(event, arguments):
    if event == "exec" and getattr(arguments[0], "co_name", "") == "<module>" and "monitor" in arguments[0].co_filename:
        name = arguments[0].co_filename.removeprefix(os.environ["PYTHONPATH"] + "/").removesuffix(".py").removesuffix("/__init__")
        os.write(9, f"{name.replace('/', '.')}\\n".encode())
sys.addaudithook(note)
from sflow_ctl.__main__ import main
main()
"""
ALWAYS = {"protocol.messages.monitor", "sflow_ctl.format.schema.monitor", "sflow_ctl.plan.monitors"}
ALWAYS |= {"sflow_ctl.cli.options.monitor_options"}
"""Types of the wire, the format and the plan; the options."""


def test_a_run_without_monitors_loads_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["true"]}]}\n'
    )
    command = shlex.join([sys.executable, "-c", WITHOUT, "run", "w.yaml"])
    subprocess.run(
        ["bash", "-c", f"{command} 9> imported"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=True,
    )
    imported = {*(tmp_path / "imported").read_text().split()}
    assert "sflow_ctl.plan.monitors" in imported  # the hook sees imports
    assert imported <= ALWAYS


@pytest.mark.parametrize("module", ["sflow_agent.agent", "sflow_agent.guarding.guardian"])
def test_an_agent_without_monitors_loads_none_of_it(module: str) -> None:
    code = f"import sys, {module}; print([name for name in sys.modules if 'monitor' in name])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert {*eval(done.stdout)} <= {"protocol.messages.monitor"}

"""One real run whose tasks burn CPU, hold memory and write a file: what its files and its summary say of them."""

import os
import re
import sys
from pathlib import Path

import pytest

from sflow_ctl.report.summary import Summary, TaskSummary, read_summary
from sflow_ctl.report.telemetry.series import Telemetry
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.telemetry.reader import read_newest, read_telemetry
from tests.support import sflow_ctl

MIB = 1 << 20
WORKFLOW = """version: "0.1"
settings: {telemetry: {every: 250ms, openmetrics: METRICS}}
workflow:
  name: measured
  tasks:
    - name: burn
      windows: [{name: loop, start: BEGIN, end: "re:^E.D$"}]
      script:
        - |
          python3 -c '
          import time
          print("BEGIN", flush=True)
          while time.process_time() < 1.2: pass
          print("END", flush=True)'
          sflow-ctl mark rest
          sleep 1
          sflow-ctl mark rest --end
          sflow-ctl mark never-ended
          sleep 0.6
    - name: hold
      replicas: {count: 2}
      script:
        - |
          python3 -c '
          import subprocess, time
          kept = b"x" * (60 << 20)
          child = subprocess.Popen(["sleep", "4"])
          child.wait()'
    - name: write
      script: ['head -c 8388608 /dev/zero > "$SFLOW_TASK_OUTPUT_DIR/file"; sync "$SFLOW_TASK_OUTPUT_DIR/file"; sleep 1.5']
    - {name: short, script: ["true"]}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("measured")
    (cwd / "w.yaml").write_text(WORKFLOW.replace("METRICS", str(cwd / "metrics.txt")))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=cwd, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    return cwd / "sflow_output/r"


@pytest.fixture(scope="module")
def telemetry(directory: Path) -> Telemetry:
    return read_telemetry(directory)


@pytest.fixture(scope="module")
def summary(directory: Path) -> Summary:
    return read_summary((directory / layout.SUMMARY).read_bytes())


def of(summary: Summary, name: str) -> TaskSummary:
    return next(task for task in summary.tasks if task.name == name)


def test_the_cpu_time_of_a_task_is_that_of_all_its_processes(telemetry: Telemetry, summary: Summary) -> None:
    (series,) = telemetry.of_task("burn", 1)
    assert (series.last("cpu_ms") or 0) >= 1150
    cpu_s = of(summary, "burn").cpu_s
    assert cpu_s is not None
    assert 1.2 <= cpu_s < 30


def test_memory_is_that_of_each_replica(telemetry: Telemetry, summary: Summary) -> None:
    for name in ("hold_0", "hold_1"):
        (series,) = telemetry.of_task(name)
        assert (series.peak("rss_kib") or 0) > 60 << 10
        assert series.peak("processes") == 2  # Python in place of its shell, and sleep
        assert (of(summary, name).max_rss_bytes or 0) > 60 * MIB
    assert any((series.peak("pss_kib") or 0) > 1 << 10 for series in telemetry.tasks())


def test_written_bytes_are_counted_although_their_process_has_ended(telemetry: Telemetry) -> None:
    (series,) = telemetry.of_task("write")
    assert 8 << 10 <= (series.last("written_kib") or 0) < 9 << 10
    assert (series.peak("threads") or 0) >= 1
    assert (series.peak("descriptors") or 0) >= 3


def test_a_task_that_ends_before_a_measurement_has_its_cpu_time_alone(summary: Summary) -> None:
    task = of(summary, "short")
    assert task.cpu_s is not None
    assert (task.gpu_energy_j, task.windows, task.other_gpus) == (None, (), ())


def test_windows_of_marks_and_of_log_lines_are_in_the_summary(summary: Summary) -> None:
    windows = {one.name: one for one in of(summary, "burn").windows}
    assert list(windows) == ["loop", "rest", "never-ended"]
    loop, rest, left = windows.values()
    assert (loop.cpu_s or 0) > 0.6
    assert not loop.is_open
    assert rest.duration_s >= 1.0
    assert (rest.max_rss_bytes or 0) > 0
    assert left.is_open
    assert [one.cpu_s is None for one in (rest, left)] == [False, False]


def test_the_node_says_what_measuring_cost_it(telemetry: Telemetry) -> None:
    (node,) = telemetry.nodes()
    assert (node.last("cost_us") or 0) > 0
    assert node.labels["cpus"] == str(os.cpu_count())
    assert (node.peak("memory_used_kib") or 0) > 0


def test_the_last_rows_are_in_whole_blocks(directory: Path) -> None:
    assert read_newest(directory).series == ()
    kept = {path.suffix: path.stat().st_size for path in (directory / layout.TELEMETRY).iterdir()}
    assert kept[".tail"] == 0
    assert 0 < kept[".blocks"] < 20_000


def test_published_values_are_those_of_the_tasks(directory: Path) -> None:
    text = (directory.parents[1] / "metrics.txt").read_text()
    assert text.endswith("# EOF\n")
    assert re.search(
        r'^sflow_task_cpu_seconds_total\{node="localhost",task="burn",attempt="1"\} ', text, re.MULTILINE
    )


def test_telemetry_that_is_off_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nsettings: {telemetry: {enabled: false}}\nworkflow: {name: w, tasks: '
        '[{name: a, script: ["echo marks=$SFLOW_MARKS_FILE; sflow-ctl mark x; sleep 1.2"]}]}\n'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "sflow_output/r" / layout.TELEMETRY).exists()
    log = (tmp_path / "sflow_output/r/a/a.log").read_text()
    assert log.splitlines()[0] == "marks="
    assert "the window is not marked: telemetry is off" in log
    assert of(read_summary((tmp_path / "sflow_output/r" / layout.SUMMARY).read_bytes()), "a").cpu_s is None


def test_mark_outside_of_a_task_is_refused(tmp_path: Path) -> None:
    done = sflow_ctl("mark", "x", cwd=tmp_path)
    assert done.returncode == 2
    assert "windows are marked from inside a task" in done.stderr
    assert sflow_ctl("mark", " ", cwd=tmp_path).returncode == 2

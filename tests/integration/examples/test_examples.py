"""Every example is run by the real command line, and does what its comment promises."""

import csv
import shutil
import socket
import sys
from pathlib import Path

import pytest

from tests.support import EXAMPLES, read_json, sflow_ctl


def run_example(name: str, cwd: Path, *arguments: str) -> tuple[str, Path]:
    """Return (output, run directory) of an example that must succeed."""
    done = sflow_ctl("run", EXAMPLES / f"{name}.yaml", "--run-id", "r", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, cwd / "sflow_output" / "r"


def outputs(directory: Path, task: str) -> dict[str, object]:
    """Return the content of a task's outputs.json."""
    document = read_json(directory / task / "outputs.json")
    assert isinstance(document, dict)
    return dict(document["outputs"])


def test_every_example_has_a_test() -> None:
    source = Path(__file__).read_text()
    assert [path.stem for path in EXAMPLES.glob("*.yaml") if f'"{path.stem}"' not in source] == []


def test_hello(tmp_path: Path) -> None:
    printed, directory = run_example("hello", tmp_path, "--set", "WHO=fleet")
    assert "[hello] hello, fleet, from" in printed
    assert (directory / "hello" / "hello.log").read_text().startswith("hello, fleet, from")


def test_diamond(tmp_path: Path) -> None:
    printed, directory = run_example("diamond", tmp_path)
    assert outputs(directory, "report") == {"total": 133}
    assert "✓ Workflow completed" in printed
    expected = {
        "workflow.yaml",
        "plan.json",
        "run.json",
        "events.jsonl",
        "summary.json",
        "nodes.json",
    }
    assert expected <= {path.name for path in (directory / ".sflow").iterdir()}
    assert (directory / "sflow.log").exists()
    assert not (directory / ".sflow/connection.json").exists()


def test_sweep(tmp_path: Path) -> None:
    printed, directory = run_example("sweep", tmp_path)
    areas = {task.name: outputs(directory, task.name)["area"] for task in directory.glob("measure_*")}
    assert areas == {
        "measure_1_0_5": 0.5,
        "measure_1_1_5": 1.5,
        "measure_2_0_5": 1.0,
        "measure_2_1_5": 3.0,
        "measure_4_0_5": 2.0,
        "measure_4_1_5": 6.0,
    }
    assert "[summary] measure_4_1_5 6.0" in printed


def test_gpu_workers(tmp_path: Path) -> None:
    printed, _ = run_example("gpu_workers", tmp_path)
    for line in (
        "localhost has GPU 0",
        "localhost has GPU 1",
        "localhost-1 has GPU 0",
        "localhost-1 has GPU 1",
    ):
        assert f"[check] {line}" in printed


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
@pytest.mark.skipif(shutil.which("redis-benchmark") is None, reason="redis-benchmark is not installed")
def test_redis(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    printed, directory = run_example("redis", tmp_path, "--set", f"PORT={port}", "--set", "REQUESTS=2000")
    measured = outputs(directory, "load")
    assert measured["command"] == ["SET", "GET"]
    rates = measured["requests_per_second"]
    assert isinstance(rates, list)
    assert all(rate > 0 for rate in rates)
    assert "bye bye" in (directory / "redis" / "redis.log").read_text()
    assert "redis ready" in printed


@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
@pytest.mark.skipif(shutil.which("nats-server") is None, reason="nats-server is not installed")
@pytest.mark.skipif(shutil.which("nginx", path="/usr/bin:/usr/sbin") is None, reason="nginx is not installed")
def test_serving(tmp_path: Path) -> None:
    _, directory = run_example("serving", tmp_path, "--set", "REQUESTS=160", "--set", "CONCURRENCY=[1,2,8]")
    rows = list(csv.DictReader((directory / ".sflow/results.csv").read_text().splitlines()))
    assert [(row["CONCURRENCY"], row["requests"], row["state"]) for row in rows] == [
        ("1", "160", "completed"),
        ("2", "160", "completed"),
        ("8", "160", "completed"),
    ]
    assert all(float(row["rate"]) > 0 and float(row["p99_ms"]) >= float(row["p50_ms"]) for row in rows)
    assert all(2 <= int(row["workers"]) <= 4 for row in rows)  # nginx shares them among several
    words = [line.split() for line in (directory / "collect" / "collect.log").read_text().splitlines()]
    assert [word[1] for word in words if word[0] == "registered"] == [
        f"/workers/worker_{n}" for n in range(4)
    ]
    assert sum(int(word[2]) for word in words if word[0] == "served") == 480


@pytest.mark.parametrize("name", ["hello", "diamond", "sweep", "gpu_workers", "redis", "serving"])
def test_a_dry_run_shows_the_plan_and_creates_nothing(name: str, tmp_path: Path) -> None:
    done = sflow_ctl("run", EXAMPLES / f"{name}.yaml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("✓ Configuration is valid\n")
    assert "Allocation map" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_train_sweep(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    given = ("--set", f"PYTHON={sys.executable}", "--set", "EPOCHS=6")
    printed, directory = run_example("train_sweep", tmp_path, *given)
    with (directory / ".sflow/cells.csv").open() as file:
        cells = {row["cell"]: row for row in csv.DictReader(file)}
    assert len(cells) == 12
    killed = cells.pop("wide_DECAY-1e-3_LR-0.3")
    assert (killed["attempts"], killed["resumed_at"]) == ("2", "4"), killed
    assert {(row["attempts"], row["resumed_at"], row["state"]) for row in cells.values()} == {
        ("1", "0", "completed")
    }
    assert all(float(row["accuracy"]) > 0.4 for row in cells.values())
    assert "best cell: " in printed
    assert "train_wide_DECAY-1e-3_LR-0.3#2 continues from " in printed
    assert "/checkpoints/epoch_4.npz (epoch 4): it has the highest epoch" in printed
    report = (directory / ".sflow/report.json").read_text()
    assert '"value":"accuracy","over":"LR"' in report.replace(" ", "")


def test_active_learning(tmp_path: Path) -> None:
    printed, directory = run_example("active_learning", tmp_path)
    assert outputs(directory, "learn_4.select")["spread"] == pytest.approx(0.0056, abs=0.0001)
    assert "[report] learned from 19 points" in printed

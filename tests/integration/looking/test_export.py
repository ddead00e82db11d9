"""Runs as tables and in stores of tracking tools, written and read with their own libraries."""

import csv
import importlib.util
import os
from pathlib import Path

import pytest

from protocol.errors import UsageError
from sflow_ctl.runtime.tracking.extras import needed
from tests.conformance.reference.install import NotInstalledError, environment
from tests.support import sflow_ctl

WORKFLOW = """\
version: "0.1"
variables: {lr: 0.1}
sweep: {axes: {lr: [1e-3, 0.5]}}
workflow:
  name: trained
  labels: {team: vision}
  tasks:
    - name: train
      script:
        - echo "loss = 2.0"; echo "loss = 1.5"; echo "loss = $lr"; echo "kind is big"; [ "$lr" != 0.5 ]
      outputs:
        - {pattern: "loss = {loss:g}"}
        - {pattern: "kind is {kind}"}
    - {name: after, depends_on: train, script: ["true"]}
"""
WANDB = "0.31.0"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with a run of two cells, of which the second one has failed."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "sflow.yaml").write_text(WORKFLOW)
    done = sflow_ctl("run", "--quiet", "--run-id", "one", cwd=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    return folder


def test_csv_has_a_row_for_each_task_of_all_runs(ended: Path) -> None:
    done = sflow_ctl("export", "one", "one", "-o", "both.csv", cwd=ended)
    assert done.stdout == "✓ Exported 8 tasks of 2 runs to both.csv\n", done.stderr
    rows = list(csv.DictReader((ended / "both.csv").read_text().splitlines()))
    assert [row["task"] for row in rows] == 2 * [
        "train_lr-1e-3",
        "after_lr-1e-3",
        "train_lr-0.5",
        "after_lr-0.5",
    ]
    first, _, failed, skipped = rows[:4]
    assert (first["run"], first["workflow"], first["cell"], first["label.team"]) == (
        "one",
        "trained",
        "lr-1e-3",
        "vision",
    )
    assert (first["param.lr"], first["value.loss"], first["value.kind"]) == ("1e-3", "[2.0,1.5,0.001]", "big")
    assert (failed["state"], failed["exit_code"], skipped["state"]) == ("failed", "1", "skipped")


def test_parquet_has_the_same_table_with_numbers(ended: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert sflow_ctl("export", "--to", "parquet", "-o", "t.parquet", cwd=ended).returncode == 0
    rows = parquet.read_table(ended / "t.parquet").to_pylist()
    assert [row["exit_code"] for row in rows] == [0, 0, 1, None]
    assert rows[0]["value.loss"] == "[2.0,1.5,0.001]"


@pytest.mark.parametrize("store", ["mlruns", "file"])
def test_mlflow_has_a_run_for_each_cell_and_a_second_export_replaces_it(ended: Path, store: str) -> None:
    mlflow = pytest.importorskip("mlflow.tracking", exc_type=ImportError)
    address = (ended / "mlruns").as_uri() if store == "mlruns" else (ended / "other").as_uri()
    for _ in range(2):
        done = sflow_ctl(
            "export", "--to", "mlflow", "-o", "mlruns" if store == "mlruns" else address, cwd=ended
        )
        assert done.returncode == 0, done.stderr
        assert "2 records of 1 run" in done.stdout
        shown = "mlruns" if store == "mlruns" else address
        assert f"MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {shown}" in done.stdout
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    client = mlflow.MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name("trained")
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {"lr-1e-3", "lr-0.5"}
    run = found["lr-1e-3"]
    assert run.data.params == {"lr": "1e-3"}
    assert run.data.metrics["loss"] == 0.001
    assert [one.value for one in client.get_metric_history(run.info.run_id, "loss")] == [2.0, 1.5, 0.001]
    assert run.data.tags["value.kind"] == "big"
    assert run.data.tags["label.team"] == "vision"
    assert (run.info.status, found["lr-0.5"].info.status) == ("FINISHED", "FAILED")
    assert run.info.end_time >= run.info.start_time > 1_700_000_000_000


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(ended: Path) -> None:
    if importlib.util.find_spec("wandb") is None:
        done = sflow_ctl("export", "--to", "wandb", cwd=ended)
        assert done.returncode == 2
        assert "error[missing-extra]: export --to wandb needs wandb" in done.stderr
        assert "pip install 'sflow-ctl[wandb]'" in done.stderr
    with pytest.raises(UsageError, match="export --to mlflow needs no_such, which cannot be imported here"):
        needed("no_such.module", "mlflow")


def test_wandb_gets_offline_files(ended: Path) -> None:
    if not (os.environ.get("SFLOW_REFERENCE") or os.environ.get("CI")):
        pytest.skip(f"set SFLOW_REFERENCE=1 to write files with wandb {WANDB}, which is installed for it")
    try:
        python = environment(WANDB, "wandb")
    except NotInstalledError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    done = sflow_ctl(
        "export", "--to", "wandb", "-o", "w", cwd=ended, env={"PYTHONPATH": str(site)}, within_s=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = list((ended / "w").glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert any(b"1e-3" in file.read_bytes() and b"trained" in file.read_bytes() for file in files)


def test_a_path_that_cannot_be_written_is_an_error_with_a_remedy(ended: Path) -> None:
    done = sflow_ctl("export", "-o", "no/such/dir.csv", cwd=ended)
    assert done.returncode == 2
    assert "error[file-not-writable]: no/such/dir.csv" in done.stderr

"""Exports runs to a store of MLflow: a directory of files, a database, or a server, as MLflow writes its addresses."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sflow_ctl.report.exported import ExportedRun, TrackedRun, tracked_runs
from sflow_ctl.runtime.tracking.extras import needed

_KEY = "sflow.key"
_STATUS = {"completed": "FINISHED", "failed": "FAILED", "running": "RUNNING"}
_MAX_TEXT = 5000
"""Characters of a tag or parameter. Source: MLflow, MAX_TAG_VAL_LENGTH and MAX_PARAM_VAL_LENGTH."""


def write_mlflow(runs: Sequence[ExportedRun], store: str | Path) -> int:
    """Log the cells and tasks of these runs, those that are there already anew; return how many. Raises: UsageError.

    The experiment is the workflow. Of several values of a metric each is a step.
    """
    os.environ.setdefault(
        "MLFLOW_ALLOW_FILE_STORE", "true"
    )  # MLflow 3 asks for it where a store is a directory
    tracking = needed("mlflow.tracking", "mlflow")
    entities = needed("mlflow.entities", "mlflow")
    address = str(store) if "://" in str(store) else Path(store).absolute().as_uri()
    client = tracking.MlflowClient(tracking_uri=address)
    count = 0
    for run in tracked_runs(runs):
        experiment = client.get_experiment_by_name(run.workflow)
        home = experiment.experiment_id if experiment is not None else client.create_experiment(run.workflow)
        for old in client.search_runs([home], f"tags.`{_KEY}` = '{run.key}'"):
            client.delete_run(old.info.run_id)
        _log(client, entities, home, run)
        count += 1
    return count


def _log(client: Any, entities: Any, home: str, run: TrackedRun) -> None:
    begun, ended = run.started_ns // 1_000_000, (run.ended_ns or run.started_ns) // 1_000_000
    tags = {_KEY: run.key, "sflow.run": run.run_id, "sflow.state": run.state}
    tags |= {f"label.{name}": value for name, value in run.labels.items()}
    tags |= {f"value.{name}": value[:_MAX_TEXT] for name, value in run.texts.items()}
    made = client.create_run(home, start_time=begun, tags=tags, run_name=run.name).info.run_id
    client.log_batch(
        made,
        metrics=[
            entities.Metric(_safe(name), value, ended, step)
            for name, values in run.metrics.items()
            for step, value in enumerate(values)
        ],
        params=[entities.Param(_safe(name), value[:_MAX_TEXT]) for name, value in run.parameters.items()],
    )
    if run.state != "running":
        client.set_terminated(made, status=_STATUS[run.state], end_time=ended)


def _safe(name: str) -> str:
    """Return a name that MLflow accepts: letters, digits, and `_ - . / :` and blanks."""
    return "".join(one if one.isalnum() or one in "_-. /:" else "_" for one in name)

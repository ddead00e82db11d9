"""Exports runs as offline files of Weights & Biases, which `wandb sync` sends later. Nothing goes over the network here."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sflow_ctl.report.exported import ExportedRun, tracked_runs
from sflow_ctl.runtime.tracking.extras import needed


def write_wandb(runs: Sequence[ExportedRun], directory: Path) -> int:
    """Write a run of W&B for each cell and task with values; return how many. Raises: UsageError.

    The project is the workflow, the group is the run. Ids are made of the names, so that a second export replaces the first.
    """
    wandb = needed("wandb", "wandb")
    directory.mkdir(parents=True, exist_ok=True)
    count = 0
    for run in tracked_runs(runs):
        made = wandb.init(
            mode="offline",
            dir=str(directory),
            project=run.workflow,
            name=run.name,
            group=run.run_id,
            id=hashlib.sha256(run.key.encode()).hexdigest()[:16],
            config={**run.parameters, "sflow_state": run.state},
            tags=[f"{name}:{value}"[:64] for name, value in run.labels.items()],
            settings=wandb.Settings(
                console="off", silent=True, x_disable_stats=True, disable_git=True, disable_code=True
            ),
        )
        steps = max(map(len, run.metrics.values()), default=0)
        for step in range(steps):
            made.log(
                {name: values[step] for name, values in run.metrics.items() if step < len(values)}, step=step
            )
        made.summary.update({name: values[-1] for name, values in run.metrics.items()} | dict(run.texts))
        made.finish(exit_code=1 if run.state == "failed" else 0)
        count += 1
    return count

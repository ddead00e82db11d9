"""Finds the run that a Slurm job had begun before it was requeued. Called by `cli/resuming.py`."""

import os
from pathlib import Path

from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim
from sflow_ctl.runtime.record.directory import run_id_prefix
from sflow_ctl.runtime.record.reader import list_runs


def requeued_run(output_dir: Path, run_id: str | None) -> Path | None:
    """Return the run that this Slurm job had begun before it was requeued, or None: the newest one of its own."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job or not int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        return None
    if run_id is not None:
        path = output_dir / run_id
        return path if (path / layout.RUN).is_file() else None
    prefix = run_id_prefix()
    runs = [path for path in list_runs(output_dir) if path.name.startswith(f"{prefix}-")]
    if prefix != job:  # other jobs may use it, too
        claims = {path: read_claim(path / layout.CLAIM) for path in runs}
        runs = [path for path, claim in claims.items() if claim is not None and claim.job_id == job]
    return runs[-1] if runs else None

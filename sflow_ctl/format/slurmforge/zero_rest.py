"""Sections of slurmforge 0.x beside its programs: modules, mail, and what has no counterpart. Called by `zero.py`."""

import shlex

from sflow_ctl.format.slurmforge.experiment import Mail
from sflow_ctl.format.slurmforge.given import Given

_SIZING = "GPUs are asked for by number"
_LEFT: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "run directories are made in sflow_output; sflow-ctl run --output-dir names another",
        ("output", "base_output_dir"),
    ),
    ("run directories have names of their own; sflow-ctl run --run-id names one", ("output", "batch_name")),
    (
        "a run directory keeps all that tasks write in $SFLOW_TASK_OUTPUT_DIR",
        ("artifacts", "checkpoint_globs"),
    ),
    ("a run directory keeps all that tasks write in $SFLOW_TASK_OUTPUT_DIR", ("artifacts", "eval_csv_globs")),
    (
        "a run directory keeps all that tasks write in $SFLOW_TASK_OUTPUT_DIR",
        ("artifacts", "eval_image_globs"),
    ),
    ("a run directory keeps all that tasks write in $SFLOW_TASK_OUTPUT_DIR", ("artifacts", "extra_globs")),
    ("arguments of scripts are not checked before the run", ("validation", "cli_args")),
    ("what does not fit is always refused", ("validation", "topology_errors")),
    ("sflow-ctl validate --strict makes errors of warnings", ("validation", "resource_warnings")),
    (
        "agents report the GPUs of their nodes, and a task never starts without its GPUs",
        ("validation", "runtime_preflight"),
    ),
    (_SIZING, ("resources", "auto_gpu")),
    (_SIZING, ("resources", "gpu_estimator")),
    (_SIZING, ("resources", "target_mem_per_gpu_gb")),
    (_SIZING, ("resources", "safety_factor")),
    (_SIZING, ("resources", "max_gpus_per_job")),
    (_SIZING, ("resources", "min_gpus_per_job")),
    (_SIZING, ("model", "estimator_profile")),
    ("runs share one job, and wait there until they fit", ("dispatch", "group_overflow_policy")),
)


def preamble_of(given: Given) -> list[str]:
    """Return the lines that load modules and activate an environment."""
    lines = [f"module load {shlex.quote(one)}" for one in given.texts("env", "modules")]
    conda, venv = given.at("env", "conda_activate"), given.at("env", "venv_activate")
    if conda:
        lines += ['eval "$(conda shell.bash hook)"', f"conda activate {shlex.quote(str(conda))}"]
    if venv:
        text = str(venv)
        lines.append(text if text.startswith(("source ", ". ")) else f"source {shlex.quote(text)}")
    return lines


def mail_of(given: Given) -> Mail | None:
    """Return who is written to, and when; None if nobody is."""
    email, when = given.at("notify", "email"), given.at("notify", "when", default="afterany")
    is_on = given.at("notify", "enabled") is True
    if when == "after":
        given.say("a run has no notice of its begin; this one is sent at its end", "notify", "when")
    return Mail([str(email)], str(when)) if is_on and email else None


def leave_others(given: Given) -> None:
    """Leave what has no counterpart, with the reason."""
    for reason, path in _LEFT:
        if given.has(*path):
            given.leave(reason, *path)
    for kind, jobs in given.mapping("output", "dependencies").items():
        option = {"afterok": "--after-ok", "afterany": "--after-any", "afternotok": "--after-not-ok"}.get(
            kind, "--after"
        )
        given.leave(
            f"say it when you submit: sflow-ctl batch {option} {' '.join(map(str, jobs))}",
            "output",
            "dependencies",
            kind,
        )
    if given.at("storage", "backend", "engine") == "sqlite":
        given.say(
            "the state of a run is its journal; see `index` in the settings",
            "storage",
            "backend",
            "engine",
        )
    given.at("storage")

"""Sections of slurmforge 0.x beside its programs: environment, mail, and what has no counterpart. Called by `zero.py`."""

from collections.abc import Mapping
from typing import Any

from sflow_ctl.format.slurmforge.experiment import MailOrder
from sflow_ctl.format.slurmforge.given import Given
from sflow_ctl.plan.words import PolicyWord

_SIZING = "GPUs are asked for by number"
_LEFT: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "run directories are made in sflow_output; sflow-ctl run --output-dir names another",
        ("output", "base_output_dir"),
    ),
    ("run directories have names of their own; sflow-ctl run --run-id names one", ("output", "batch_name")),
    ("a run directory keeps all that tasks write in $SFLOW_TASK_OUTPUT_DIR", ("artifacts", "eval_csv_globs")),
    (
        "a run directory keeps all that tasks write in $SFLOW_TASK_OUTPUT_DIR",
        ("artifacts", "eval_image_globs"),
    ),
    ("a run directory keeps all that tasks write in $SFLOW_TASK_OUTPUT_DIR", ("artifacts", "extra_globs")),
    (_SIZING, ("resources", "auto_gpu")),
    (_SIZING, ("resources", "gpu_estimator")),
    (_SIZING, ("resources", "target_mem_per_gpu_gb")),
    (_SIZING, ("resources", "safety_factor")),
    (_SIZING, ("resources", "max_gpus_per_job")),
    (_SIZING, ("resources", "min_gpus_per_job")),
    (_SIZING, ("model", "estimator_profile")),
    ("runs share one job, and wait there until they fit", ("dispatch", "group_overflow_policy")),
)


_WORDS: Mapping[object, PolicyWord] = {
    **dict.fromkeys(("off", "ignore", "false", "False"), "off"),
    "warn": "warn",
    **dict.fromkeys(("error", "strict"), "error"),
}
"""What words of policies mean; YAML reads a bare `off` as false. `ignore` is documented, but refused."""
_JUDGED = {"cli_args": ("unknown-args",), "resource_warnings": ("idle-gpus", "other-node-count")}
"""Our findings that take the place of those of a policy. All of them are warnings where nothing is said, as there."""
_ALWAYS = {
    "topology_errors": "what does not fit is always refused",
    "runtime_preflight": "agents report the GPUs of their nodes, and a task never starts without its GPUs",
}


def policies_of(given: Given) -> dict[str, PolicyWord]:
    """Return what findings mean, by our codes, where it is not what they mean anyway."""
    found: dict[str, PolicyWord] = {}
    for key, codes in _JUDGED.items():
        if not given.has("validation", key):
            continue
        written = given.at("validation", key, default="warn")
        word = _WORDS.get(str(written))
        if word is None:
            given.leave("it is neither error, warn nor off", "validation", key)
        elif word != "warn":
            found |= dict.fromkeys(codes, word)
    for key, reason in _ALWAYS.items():
        word = _WORDS.get(str(given.at("validation", key, default="error")))
        if word != "error":
            given.say(reason, "validation", key)
    return found


def environment_of(given: Given) -> dict[str, Any]:
    """Return the environment of all stages; an empty one for none."""
    conda = str(given.at("env", "conda_activate", default="")).removeprefix("conda activate ").strip()
    file = str(given.at("env", "venv_activate", default="")).strip()
    for word in ("source ", ". "):
        file = file.removeprefix(word).strip()
    is_venv = file.endswith("/bin/activate")
    found = {
        "modules": given.texts("env", "modules"),
        "conda": conda,
        "venv": file.removesuffix("/bin/activate") if is_venv else "",
        "source": [file] if file and not is_venv else [],
    }
    return {key: value for key, value in found.items() if value}


def checkpoint_of(given: Given) -> dict[str, Any]:
    """Return what an attempt after the first one continues from: the task's own checkpoints alone."""
    at = ("artifacts", "checkpoint_globs")
    found: dict[str, Any] = {
        "inject": {"env": "AI_INFRA_RESUME_FROM_CHECKPOINT", "arg": "--resume_from_checkpoint"}
    }
    globs = [one for one in given.texts(*at) if one not in ("checkpoints/**", "checkpoints/**/*")]
    inside = [one.removeprefix("checkpoints/") for one in globs if one.startswith("checkpoints/")]
    if len(inside) < len(globs):
        given.say("only what is in $AI_INFRA_CHECKPOINT_DIR is found: save there", *at)
    return {**found, "globs": inside} if inside and len(inside) == len(given.texts(*at)) else found


def mail_of(given: Given) -> MailOrder | None:
    """Return who is written to, and when; None without one."""
    email, when = given.at("notify", "email"), given.at("notify", "when", default="afterany")
    is_on = given.at("notify", "enabled") is True
    if when == "after":
        given.say("a run has no notice of its begin; this one is sent at its end", "notify", "when")
    return MailOrder([str(email)], str(when)) if is_on and email else None


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

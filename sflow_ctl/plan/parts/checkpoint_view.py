"""What a task sees of the checkpoint that an attempt continues from: `checkpoint` in its expressions, and its variables. Pure."""

import shlex
from collections.abc import Mapping
from typing import Any

from protocol.messages.handover import CheckpointChoice, CheckpointRules

NAME = "checkpoint"
DIRECTORY_VARIABLE, STEP_VARIABLE = "SFLOW_CHECKPOINT_DIR", "SFLOW_CHECKPOINT_STEP"


def checkpoint_view(
    rules: CheckpointRules, choice: CheckpointChoice | None, env: Mapping[str, str]
) -> dict[str, Any]:
    """Return the namespace `checkpoint`: `path` and `step` are empty, and `args` too, where it begins anew."""
    path = "" if choice is None else choice.path
    has_args = bool(path and rules.argument)
    return {
        "path": path,
        "step": "" if choice is None or choice.step is None else choice.step,
        "args": f"{rules.argument} {shlex.quote(path)}" if has_args else "",
        "dir": _directory(rules, env),
    }


def checkpoint_variables(
    rules: CheckpointRules, choice: CheckpointChoice | None, env: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of an attempt. Empty ones are set, too: one of the caller's environment must not be taken for it."""
    view = checkpoint_view(rules, choice, env)
    return {
        DIRECTORY_VARIABLE: view["dir"],
        rules.variable: view["path"],
        STEP_VARIABLE: str(view["step"]),
    }


def _directory(rules: CheckpointRules, env: Mapping[str, str]) -> str:
    directory = env.get("SFLOW_TASK_OUTPUT_DIR", "")
    return directory if rules.directory == "." else f"{directory}/{rules.directory}"

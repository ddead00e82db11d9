"""The evaluation of an experiment of slurmforge 0.x: a task that gets the checkpoint of its training. Called by `zero.py`."""

import shlex
from typing import TYPE_CHECKING, Any

from sflow_ctl.format.slurmforge.given import Given
from sflow_ctl.format.slurmforge.job import TO_FILL_IN
from sflow_ctl.format.slurmforge.stage import RESULT_DIRS, Stage

if TYPE_CHECKING:
    from sflow_ctl.format.slurmforge.zero import OldExperiment


def evaluation(reading: "OldExperiment", train: Stage) -> Stage:
    """Return the evaluation after the training, in the same job."""
    given = reading.given
    stage = Stage(
        name="eval",
        request=train.request,
        exports=dict(RESULT_DIRS),
        workdir=str(given.at("eval", "workdir", default=train.workdir)),
    )
    _hand_over(given, train, stage)
    if given.peek("eval", "command"):
        reading.command(stage, "eval")
        return stage
    script = str(given.at("eval", "script", default=TO_FILL_IN))
    mode = given.at("eval", "launch_mode", default="inherit")
    python = str(
        given.at("eval", "launcher", "python_bin") or given.peek("launcher", "python_bin") or "python3"
    )
    per_node = given.at("eval", "launcher", "distributed", "nproc_per_node")
    if mode == "ddp" or (mode == "inherit" and train.processes is not None):
        stage.processes = (
            per_node if isinstance(per_node, int) else train.processes or max(1, train.request.gpus_per_node)
        )
        stage.program = ["torchrun", stage.path(script)]
    else:
        stage.program = [shlex.quote(python), stage.path(script)]
    stage.flags = reading.flags(("eval", "args"), script)
    overrides = reading.pairs(("run", "model_overrides"))
    reading.put_json(stage, "eval", "", "pass_run_args", "run_args", reading.pairs(("run", "args")), True)
    reading.put_json(stage, "eval", "", "pass_model_overrides", "model_overrides", overrides, False)
    return stage


def _hand_over(given: Given, train: Stage, stage: Stage) -> None:
    """Hand the checkpoint of the training over, as slurmforge does it: by a variable of the environment."""
    policy = given.at("eval", "train_outputs", "checkpoint_policy", default="latest")
    explicit = given.at("eval", "train_outputs", "explicit_checkpoint")
    is_required = given.at("eval", "train_outputs", "required", default=True) is not False
    output: dict[str, Any] = {"name": "checkpoint", "path": ["checkpoints/**"], "required": False}
    if policy == "best":
        output["select"] = "best"
    elif policy == "explicit" and explicit:
        output["path"] = [f"checkpoints/**/{explicit}"]
    train.outputs.append(output)
    taken: dict[str, Any] = {"from": "train.outputs.checkpoint", "env": "AI_INFRA_PRIMARY_CHECKPOINT"}
    stage.inputs["checkpoint"] = taken if is_required else {**taken, "required": False}
    word = "BEST" if policy == "best" else "LATEST"
    stage.before.append(f'export AI_INFRA_{word}_CHECKPOINT="$AI_INFRA_PRIMARY_CHECKPOINT"')

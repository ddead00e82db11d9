"""Reads experiments of slurmforge 0.x: one training command, an evaluation after it, the cluster, and a sweep over both."""

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from sflow_ctl.format.slurmforge.experiment import Experiment
from sflow_ctl.format.slurmforge.flags import VALUE, WORD, Flag, switches
from sflow_ctl.format.slurmforge.given import Given
from sflow_ctl.format.slurmforge.job import TO_FILL_IN, Request, longest
from sflow_ctl.format.slurmforge.names import Variables
from sflow_ctl.format.slurmforge.registry import models
from sflow_ctl.format.slurmforge.stage import CHECKPOINT_ARGUMENT, RESULT_DIRS, Stage, in_workspace, json_file
from sflow_ctl.format.slurmforge.swept import Swept, cases_at, largest
from sflow_ctl.format.slurmforge.zero_eval import evaluation
from sflow_ctl.format.slurmforge.zero_rest import (
    checkpoint_of,
    environment_of,
    leave_others,
    mail_of,
    policies_of,
)

ReadText = Callable[[str], str | None]
"""Returns the text of a file of the project; None for one that is not there."""


class OldExperiment:
    """Reads one file."""

    def __init__(self, given: Given, read: ReadText) -> None:
        self.given, self.read = given, read
        self.variables = Variables()
        is_on = given.at("sweep", "enabled") is True
        limit = given.at("sweep", "max_runs")
        self.swept = Swept()
        if is_on:
            self.swept = Swept(
                given.mapping("sweep", "shared_axes"),
                ("sweep", "shared_axes"),
                cases_at(given, "sweep", "cases"),
                limit if isinstance(limit, int) and limit > 0 else None,
            )
        else:
            for key in ("shared_axes", "cases"):
                given.leave("the sweep is off (sweep.enabled)", "sweep", key)
        self.values = self.swept.values()
        self.is_command = bool(given.peek("run", "command")) or (
            given.has("run", "command") and not given.has("model") and not given.has("run", "adapter")
        )
        self.is_adapter = given.has("run", "adapter", "script")

    def experiment(self) -> Experiment:
        """Return the experiment."""
        given = self.given
        name = f"{given.at('project', default='project')}-{given.at('experiment_name', default='experiment')}"
        labels = {key: str(given.peek(key)) for key in ("project", "experiment_name") if given.peek(key)}
        self.swept.name(given, self.variables, self._cannot_sweep, {("model", "name"): "model"})
        train = self._train()
        stages = [train]
        if given.at("eval", "enabled") is True:
            stages.append(evaluation(self, train))
        elif given.has("eval"):
            given.leave("evaluation is off (eval.enabled)", "eval")
        for key, value in dict(given.at("env", "extra_env", default={})).items():
            self.variables.name(("env", "extra_env", key), str(value))
        environment, mail = environment_of(given), mail_of(given)
        for stage in stages:
            stage.environment = ENVIRONMENT if environment else None
        leave_others(given)
        budget = given.at("resources", "max_available_gpus")
        return Experiment(
            name=name,
            labels=labels,
            variables=self.variables.values,
            stages=stages,
            sweep=self.swept.put(given, self.variables, self._cannot_sweep),
            gpus_at_once=budget if isinstance(budget, int) else _BUDGET,
            has_cluster=given.has("cluster"),
            environments={ENVIRONMENT: environment} if environment else {},
            mail=mail,
            policies=policies_of(given),
        )

    def _cannot_sweep(self, path: tuple[str, ...]) -> str | None:
        """Return why cells cannot change a value, or None."""
        if path[:2] in (("run", "args"), ("run", "model_overrides"), ("env", "extra_env"), ("eval", "args")):
            return (
                None
                if len(path) == 3
                else "a part of an argument cannot be changed by a cell: list whole values"
            )
        if (
            path in _SWEPT_FIELDS
            or path == ("run", "adapter", "args")
            or path[:3] == ("run", "adapter", "args")
        ):
            return None
        return "a value of this key cannot be changed by a cell"

    def _train(self) -> Stage:
        given = self.given
        stage = Stage(name="train", request=self._request(), exports=dict(RESULT_DIRS))
        stage.workdir = str(
            given.at("run", "adapter", "workdir")
            or given.at("run", "workdir")
            or given.at("launcher", "workdir", default=".")
        )
        given.at("run", "mode")
        given.leave(
            "write the checkpoint that the first attempt begins with into the script",
            "run",
            "resume_from_checkpoint",
        )
        stage.checkpoint = checkpoint_of(given)
        if self.is_command:
            self.command(stage, "run")
            return stage
        stage.words.append(CHECKPOINT_ARGUMENT)
        python = str(given.at("launcher", "python_bin", default="python3"))
        if self.is_adapter:
            script = str(given.at("run", "adapter", "script", default=TO_FILL_IN))
            flags = self.flags(("run", "adapter", "args"), script)
        else:
            script = self._script(stage)
            flags = self.flags(("run", "args"), script)
        self._launch(stage, python, script if "$" in script else stage.path(script))
        stage.flags = flags
        overrides = self.pairs(("run", "model_overrides"))
        if self.is_adapter:
            self.put_json(
                stage, "run", "adapter", "pass_run_args", "run_args", self.pairs(("run", "args")), True
            )
            self.put_json(stage, "run", "adapter", "pass_model_overrides", "model_overrides", overrides, True)
        elif overrides:
            stage.files["model_overrides.json"] = json_file(overrides)
            stage.words.append('--model_overrides_json "$(cat "$SFLOW_TASK_FILES_DIR/model_overrides.json")"')
        return stage

    def _script(self, stage: Stage) -> str:
        """Return the script of the model, which may be chosen by name in a registry."""
        given = self.given
        given.at("model", "name")
        script = given.at("model", "script")
        found = models(given, self.read)
        given.leave("pass it as an argument of the script", "model", "yaml")
        if ("model", "script") in self.values:
            return f'"${self.variables.of(("model", "script"))}"'
        if ("model", "name") in self.values and found:
            branches = [
                f"  {shlex.quote(name)}) script={in_workspace(path)} ;;" for name, path in found.items()
            ]
            stage.before += [
                'case "$model" in',
                *branches,
                '  *) echo "no model $model" >&2; exit 2 ;;',
                "esac",
            ]
            return '"$script"'
        return str(script or found.get(str(given.peek("model", "name")), TO_FILL_IN))

    def _launch(self, stage: Stage, python: str, script: str) -> None:
        """Choose between torchrun and one process."""
        given = self.given
        mode = str(given.at("run", "adapter", "launch_mode") or given.at("launcher", "mode", default="auto"))
        per_node = given.at("launcher", "distributed", "nproc_per_node")
        nodes = given.at("launcher", "distributed", "nnodes", default=1)
        gpus = stage.request.gpus_per_node
        section = ("run", "adapter") if self.is_adapter else ("model",)
        is_supported = given.at(*section, "ddp_supported", default=True) is not False
        is_required = given.at(*section, "ddp_required") is True
        count = per_node if isinstance(per_node, int) else max(1, gpus)
        several = count * max(stage.request.nodes, nodes if isinstance(nodes, int) else 1) > 1
        given.leave(
            "the ports of tasks are leased, so none is in use by another",
            "launcher",
            "distributed",
            "master_port",
        )
        given.at("launcher", "distributed", "port_offset")
        extra = given.texts("launcher", "distributed", "extra_torchrun_args")
        if mode == "ddp" or (mode == "auto" and (is_required or (several and is_supported))):
            stage.processes = count
            stage.program = ["torchrun", *map(shlex.quote, extra), script]
        else:
            stage.program = [shlex.quote(python), script]

    def command(self, stage: Stage, section: str) -> None:
        """Let a stage run the command of a section as it is."""
        given = self.given
        text = str(given.at(section, "command", default=TO_FILL_IN)).strip()
        is_raw = given.at(section, "command_mode", default="argv") in ("raw", "shell")
        swept = self.variables.of((section, "command"))
        stage.program = [
            f'bash -c "${swept}"' if swept else text if is_raw else shlex.join(shlex.split(text))
        ]
        if section == "run" and not is_raw and not swept:
            stage.words.append(CHECKPOINT_ARGUMENT)
        for key in ("nnodes", "nproc_per_node"):
            given.leave("the command starts its own processes", section, "external_runtime", key)
        if section == "run":
            given.leave("arguments are part of run.command", "run", "args")
            for key in given.mapping("launcher"):
                given.leave("the command is run as it is", "launcher", key) if key != "workdir" else None

    def put_json(
        self,
        stage: Stage,
        section: str,
        part: str,
        switch: str,
        default: str,
        values: dict[str, str],
        is_on: bool,
    ) -> None:
        """Pass values as one argument that is JSON."""
        path = (section, part) if part else (section,)
        flag = self.given.at(*path, f"{default}_flag", default=f"{default}_json")
        if self.given.at(*path, switch, default=is_on) is not True or (
            default == "model_overrides" and not values
        ):
            return
        stage.files[f"{default}.json"] = json_file(values)
        stage.words.append(f'{shlex.quote(f"--{flag}")} "$(cat "$SFLOW_TASK_FILES_DIR/{default}.json")"')

    def pairs(self, path: tuple[str, ...]) -> dict[str, str]:
        """Return the variables of a mapping of arguments, by argument."""
        found: Mapping[str, Any] = self.given.written(*path) or {}
        names = {key: self.variables.name((*path, key), value) for key, value in found.items()}
        swept = [one for one in self.variables.origins if one[: len(path)] == path]
        return names | {one[-1]: self.variables.name(one, None) for one in swept}

    def flags(self, path: tuple[str, ...], script: str) -> list[Flag]:
        """Return the arguments of a mapping, as the script wants them."""
        known = switches(self.read(script))
        flags = []
        for key, variable in self.pairs(path).items():
            value = self.variables.values[variable]
            if value is None:
                continue
            flag, style = f"--{key}", VALUE
            if self.variables.is_boolean(variable):
                flag, style = known.get(key, (flag, WORD))
            flags.append(Flag(flag, variable, style))
        return flags

    def _request(self) -> Request:
        given = self.given
        gpus = self._largest(
            ("cluster", "gpus_per_node"), given.at("cluster", "gpus_per_node", default="auto")
        )
        if not isinstance(gpus, int):
            gpus = given.at("resources", "min_gpus_per_job", default=1)
            if given.has("cluster", "gpus_per_node"):
                reason = f"slurmforge guesses it from the arguments; here it is {gpus}: write the number"
                given.say(reason, "cluster", "gpus_per_node")
        time, memory = given.at("cluster", "time_limit"), given.at("cluster", "mem")
        times = [time, *self.values.get(("cluster", "time_limit"), ())]
        return Request(
            partition=given.at("cluster", "partition"),
            account=given.at("cluster", "account"),
            qos=given.at("cluster", "qos"),
            time=longest([str(one) for one in times if one is not None]),
            nodes=self._largest(("cluster", "nodes"), given.at("cluster", "nodes", default=1)),
            gpus_per_node=int(gpus),
            cpus=self._largest(("cluster", "cpus_per_task"), given.at("cluster", "cpus_per_task")),
            memory=None if memory is None else str(memory),
            constraint=given.at("cluster", "constraint"),
            extra=given.texts("cluster", "extra_sbatch_args"),
            swept={
                field: name for path, field in _SWEPT_REQUESTS.items() if (name := self.variables.of(path))
            },
        )

    def _largest(self, path: tuple[str, ...], own: Any) -> Any:
        return largest(self.values.get(path, []), own)


ENVIRONMENT = "default"
_BUDGET = 8
"""slurmforge's own, where the file gives none."""
_SWEPT_REQUESTS = {
    ("cluster", "nodes"): "nodes",
    ("cluster", "gpus_per_node"): "gpus_per_node",
    ("cluster", "time_limit"): "time",
    ("cluster", "cpus_per_task"): "cpus",
}
_SWEPT_FIELDS = {*_SWEPT_REQUESTS, ("model", "name"), ("model", "script"), ("run", "command")}


def read_experiment(given: Given, read: ReadText) -> Experiment:
    """Return the experiment of a file of slurmforge 0.x."""
    return OldExperiment(given, read).experiment()

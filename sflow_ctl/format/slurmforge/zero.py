"""Reads experiments of slurmforge 0.x: one training command, an evaluation after it, the cluster, and a sweep over both."""

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from sflow_ctl.format.slurmforge.experiment import Experiment, Mail
from sflow_ctl.format.slurmforge.flags import VALUE, WORD, Flag, switches
from sflow_ctl.format.slurmforge.given import Given
from sflow_ctl.format.slurmforge.job import TO_FILL_IN, Request, longest
from sflow_ctl.format.slurmforge.names import Variables
from sflow_ctl.format.slurmforge.registry import models
from sflow_ctl.format.slurmforge.stage import Stage, in_workspace, json_file, newest
from sflow_ctl.format.slurmforge.swept import Swept, cases_at, largest

ReadText = Callable[[str], str | None]
"""Returns the text of a file of the project; None for one that is not there."""
_CHECKPOINT_GLOBS = ("checkpoints/**",)
_RESULT_DIRS = {
    "AI_INFRA_RESULT_DIR": "$SFLOW_TASK_OUTPUT_DIR",
    "AI_INFRA_CHECKPOINT_DIR": "$SFLOW_TASK_OUTPUT_DIR/checkpoints",
    "AI_INFRA_META_DIR": "$SFLOW_TASK_OUTPUT_DIR/meta",
    "AI_INFRA_EVAL_CSV_DIR": "$SFLOW_TASK_OUTPUT_DIR/eval_csv",
    "AI_INFRA_EVAL_IMAGE_DIR": "$SFLOW_TASK_OUTPUT_DIR/eval_images",
}
"""What programs written for slurmforge 0.x find in their environment."""


class _Reading:
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
        given = self.given
        name = f"{given.at('project', default='project')}-{given.at('experiment_name', default='experiment')}"
        labels = {key: str(given.peek(key)) for key in ("project", "experiment_name") if given.peek(key)}
        self._make_swept_variables()
        train = self._train()
        stages = [train]
        if given.at("eval", "enabled") is True:
            stages.append(self._evaluation(train))
        elif given.has("eval"):
            given.leave("evaluation is off (eval.enabled)", "eval")
        for key, value in dict(given.at("env", "extra_env", default={})).items():
            self.variables.name(("env", "extra_env", key), str(value))
        preamble, mail = self._preamble(), self._mail()
        self._leave_others()
        budget = given.at("resources", "max_available_gpus")
        return Experiment(
            name=name,
            labels=labels,
            variables=self.variables.values,
            stages=stages,
            sweep=self.swept.put(given, self.variables, self._cannot_sweep),
            gpus_at_once=budget if isinstance(budget, int) else _BUDGET,
            has_cluster=given.has("cluster"),
            preamble=preamble,
            mail=mail,
        )

    def _make_swept_variables(self) -> None:
        """Make a variable for each value that cells change."""
        for path, values in self.values.items():
            if self._cannot_sweep(path) is None:
                own = self.given.written(*path) if self.given.has(*path) else None
                wanted = "model" if path == ("model", "name") else None
                self.variables.name(path, values[0] if own is None else own, wanted)

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
        stage = Stage(name="train", request=self._request(), exports=dict(_RESULT_DIRS))
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
        if self.is_command:
            self._command(stage, "run")
            return stage
        python = str(given.at("launcher", "python_bin", default="python3"))
        if self.is_adapter:
            script = str(given.at("run", "adapter", "script", default=TO_FILL_IN))
            flags = self._flags(("run", "adapter", "args"), script)
        else:
            script = self._script(stage)
            flags = self._flags(("run", "args"), script)
        self._launch(stage, python, script if "$" in script else stage.path(script))
        stage.flags = flags
        overrides = self._pairs(("run", "model_overrides"))
        if self.is_adapter:
            self._pass(
                stage, "run", "adapter", "pass_run_args", "run_args", self._pairs(("run", "args")), True
            )
            self._pass(stage, "run", "adapter", "pass_model_overrides", "model_overrides", overrides, True)
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

    def _command(self, stage: Stage, section: str) -> None:
        given = self.given
        text = str(given.at(section, "command", default=TO_FILL_IN)).strip()
        is_raw = given.at(section, "command_mode", default="argv") in ("raw", "shell")
        swept = self.variables.of((section, "command"))
        stage.program = [
            f'bash -c "${swept}"' if swept else text if is_raw else shlex.join(shlex.split(text))
        ]
        for key in ("nnodes", "nproc_per_node"):
            given.leave("the command starts its own processes", section, "external_runtime", key)
        if section == "run":
            given.leave("arguments are part of run.command", "run", "args")
            for key in given.mapping("launcher"):
                given.leave("the command is run as it is", "launcher", key) if key != "workdir" else None

    def _evaluation(self, train: Stage) -> Stage:
        given = self.given
        stage = Stage(
            name="eval",
            request=train.request,
            exports=dict(_RESULT_DIRS),
            workdir=str(given.at("eval", "workdir", default=train.workdir)),
            depends_on=["train"],
        )
        self._checkpoint(stage)
        if given.peek("eval", "command"):
            self._command(stage, "eval")
            return stage
        script = str(given.at("eval", "script", default=TO_FILL_IN))
        mode = given.at("eval", "launch_mode", default="inherit")
        python = str(
            given.at("eval", "launcher", "python_bin") or given.peek("launcher", "python_bin") or "python3"
        )
        per_node = given.at("eval", "launcher", "distributed", "nproc_per_node")
        if mode == "ddp" or (mode == "inherit" and train.processes is not None):
            stage.processes = (
                per_node
                if isinstance(per_node, int)
                else train.processes or max(1, train.request.gpus_per_node)
            )
            stage.program = ["torchrun", stage.path(script)]
        else:
            stage.program = [shlex.quote(python), stage.path(script)]
        stage.flags = self._flags(("eval", "args"), script)
        overrides = self._pairs(("run", "model_overrides"))
        self._pass(stage, "eval", "", "pass_run_args", "run_args", self._pairs(("run", "args")), True)
        self._pass(stage, "eval", "", "pass_model_overrides", "model_overrides", overrides, False)
        return stage

    def _checkpoint(self, stage: Stage) -> None:
        """Hand the checkpoint of the training over, as slurmforge does it: by a variable of the environment."""
        given = self.given
        policy = given.at("eval", "train_outputs", "checkpoint_policy", default="latest")
        explicit = given.at("eval", "train_outputs", "explicit_checkpoint")
        is_required = given.at("eval", "train_outputs", "required", default=True) is not False
        if not is_required:
            given.say("without a checkpoint the evaluation fails", "eval", "train_outputs", "required")
        globs: tuple[str, ...] = (
            ("checkpoints/**/*best*", "checkpoints/*best*") if policy == "best" else _CHECKPOINT_GLOBS
        )
        if policy == "explicit" and explicit:
            globs = (f"checkpoints/**/{explicit}",)
        stage.before += [
            *newest("train", globs, "AI_INFRA_PRIMARY_CHECKPOINT", 97),
            "export AI_INFRA_PRIMARY_CHECKPOINT",
            f'export AI_INFRA_{"BEST" if policy == "best" else "LATEST"}_CHECKPOINT="$AI_INFRA_PRIMARY_CHECKPOINT"',
        ]

    def _pass(
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

    def _pairs(self, path: tuple[str, ...]) -> dict[str, str]:
        """Return the variables of a mapping of arguments, by argument."""
        found: Mapping[str, Any] = self.given.written(*path) or {}
        names = {key: self.variables.name((*path, key), value) for key, value in found.items()}
        swept = [one for one in self.variables.origins if one[: len(path)] == path]
        return names | {one[-1]: self.variables.name(one, None) for one in swept}

    def _flags(self, path: tuple[str, ...], script: str) -> list[Flag]:
        known = switches(self.read(script))
        flags = []
        for key, variable in self._pairs(path).items():
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

    def _preamble(self) -> list[str]:
        given = self.given
        lines = [f"module load {shlex.quote(one)}" for one in given.texts("env", "modules")]
        conda, venv = given.at("env", "conda_activate"), given.at("env", "venv_activate")
        if conda:
            lines += ['eval "$(conda shell.bash hook)"', f"conda activate {shlex.quote(str(conda))}"]
        if venv:
            text = str(venv)
            lines.append(text if text.startswith(("source ", ". ")) else f"source {shlex.quote(text)}")
        return lines

    def _mail(self) -> Mail | None:
        given = self.given
        email, when = given.at("notify", "email"), given.at("notify", "when", default="afterany")
        is_on = given.at("notify", "enabled") is True
        if when == "after":
            given.say("a run has no notice of its begin; this one is sent at its end", "notify", "when")
        return Mail([str(email)], str(when)) if is_on and email else None

    def _leave_others(self) -> None:
        given = self.given
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


_BUDGET = 8
"""slurmforge's own, where the file gives none."""
_SWEPT_REQUESTS = {
    ("cluster", "nodes"): "nodes",
    ("cluster", "gpus_per_node"): "gpus_per_node",
    ("cluster", "time_limit"): "time",
    ("cluster", "cpus_per_task"): "cpus",
}
_SWEPT_FIELDS = {*_SWEPT_REQUESTS, ("model", "name"), ("model", "script"), ("run", "command")}
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


def read_experiment(given: Given, read: ReadText) -> Experiment:
    """Return the experiment of a file of slurmforge 0.x."""
    return _Reading(given, read).experiment()

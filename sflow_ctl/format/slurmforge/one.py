"""Reads experiments of slurmforge 1.x: stages with contracts, named environments and runtimes, and `runs` for a sweep."""

import shlex
from collections.abc import Mapping
from typing import Any

from sflow_ctl.format.slurmforge.experiment import Experiment, MailOrder
from sflow_ctl.format.slurmforge.flags import Flag, Style
from sflow_ctl.format.slurmforge.given import Given
from sflow_ctl.format.slurmforge.job import TO_FILL_IN, Request, longest
from sflow_ctl.format.slurmforge.names import Variables
from sflow_ctl.format.slurmforge.stage import Stage, plain_name
from sflow_ctl.format.slurmforge.swept import Swept, cases_at, largest

_DEFAULTS = {"nodes": 1, "gpus_per_node": 0, "cpus_per_task": 1}
_SWEPT_REQUESTS = {
    "nodes": "nodes",
    "gpus_per_node": "gpus_per_node",
    "time_limit": "time",
    "cpus_per_task": "cpus",
}
_BUDGET = 1
"""slurmforge's own GPUs at once, where the file gives none."""


class _Reading:
    """Reads one file."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.variables = Variables()
        self.swept = _swept(given)
        self.values = self.swept.values()

    def experiment(self) -> Experiment:
        given = self.given
        name = f"{given.at('project', default='project')}-{given.at('experiment', default='experiment')}"
        labels = {key: str(given.peek(key)) for key in ("project", "experiment") if given.peek(key)}
        self.swept.name(given, self.variables, self._cannot_sweep)
        stages = []
        for name_of_stage in given.mapping("stages"):
            if given.at("stages", name_of_stage, "enabled", default=True) is False:
                given.leave("the stage is off (enabled)", "stages", name_of_stage)
            else:
                stages.append(self._stage(name_of_stage))
        environments = {}
        for stage in stages:
            named = str(given.at("stages", stage.name, "environment", default=""))
            body = self._environment(named)
            if body:
                environments[named] = body
                stage.environment = named
        mail = self._mail()
        self._leave_others()
        budget = given.at("dispatch", "max_available_gpus")
        return Experiment(
            name=name,
            labels=labels,
            variables=self.variables.values,
            stages=stages,
            sweep=self.swept.put(given, self.variables, self._cannot_sweep),
            gpus_at_once=budget if isinstance(budget, int) else _BUDGET,
            environments=environments,
            mail=mail,
        )

    def _cannot_sweep(self, path: tuple[str, ...]) -> str | None:
        """Return why cells cannot change a value, or None."""
        if path[0] != "stages" or len(path) < 4:
            return "only values of stages can be changed by a cell"
        if path[2:4] == ("entry", "args") and len(path) == 5:
            return None
        if path[2] == "resources" and path[3] in _SWEPT_REQUESTS:
            return None
        return "a value of this key cannot be changed by a cell"

    def _stage(self, name: str) -> Stage:
        given, at = self.given, ("stages", name)
        for key in ("kind", "environment", "runtime"):
            given.at(*at, key)
        stage = Stage(
            name=name,
            request=self._request(name),
            exports={
                "SFORGE_RUN_ID": "${SFLOW_SWEEP_LABEL:-$SFLOW_WORKFLOW_NAME}",
                "SFORGE_STAGE_NAME": name,
                "SFORGE_STAGE_INSTANCE_ID": "$SFLOW_TASK_NAME",
                "SFORGE_ATTEMPT_DIR": "$SFLOW_TASK_OUTPUT_DIR",
                **self._runtime_env(name),
            },
            workdir=str(given.at(*at, "entry", "workdir", default=".")),
            depends_on=given.texts(*at, "depends_on"),
        )
        self._outputs(stage)
        for index, step in enumerate(given.at(*at, "before", default=[])):
            if isinstance(step, Mapping):
                title = step.get("name") or f"before_{index + 1}"
                stage.before += [f"echo {shlex.quote(f'[BEFORE] {title}')}", str(step.get("run", ""))]
        self._program(stage)
        self._flags(stage)
        self._inputs(stage)
        return stage

    def _program(self, stage: Stage) -> None:
        given, at = self.given, ("stages", stage.name)
        runtime = str(given.peek(*at, "runtime") or "default")
        python = shlex.quote(str(given.at("runtime", "user", runtime, "python", "bin", default="python3")))
        given.leave(
            "write a check into the script, if it needs one",
            "runtime",
            "user",
            runtime,
            "python",
            "min_version",
        )
        kind = str(given.at(*at, "launcher", "type", default="single"))
        command = given.at(*at, "entry", "command")
        script = given.at(*at, "entry", "script", default=TO_FILL_IN)
        is_command = given.at(*at, "entry", "type") == "command" or (
            command is not None and not given.has(*at, "entry", "script")
        )
        if is_command:
            words = shlex.join(map(str, command)) if isinstance(command, list) else str(command or TO_FILL_IN)
            base = [words]
        else:
            base = [python, stage.path(str(script))]
        args = given.texts(*at, "launcher", "args")
        if kind == "torchrun":
            count = given.at(*at, "launcher", "nproc_per_node", default="auto")
            swept = stage.request.swept.get("gpus_per_node")
            stage.processes = (
                count
                if isinstance(count, int)
                else f"${{{{ {swept} }}}}"
                if swept
                else max(1, stage.request.gpus_per_node)
            )
            given.at(*at, "launcher", "mode")
            given.at(*at, "launcher", "nnodes")
            given.at(*at, "launcher", "rendezvous", "backend")
            for key in ("endpoint", "port"):
                if given.at(*at, "launcher", "rendezvous", key) not in (None, "auto"):
                    given.say(
                        "the ports of tasks are leased, so none is in use by another",
                        *at,
                        "launcher",
                        "rendezvous",
                        key,
                    )
            base = [python, "-m", "torch.distributed.run", *map(shlex.quote, args), *base[1:]]
            given.leave("torchrun is started on each node by its agent", *at, "launcher", "srun_args")
        elif kind == "srun":
            stage.operator = {"name": "srun", "type": "srun", **({"extra_args": args} if args else {})}
        elif kind == "mpirun":
            stage.launcher = "mpirun"
            base = ["mpirun", *map(shlex.quote, args), *base]
        elif args:
            given.say("the program is started by bash, which takes no options", *at, "launcher", "args")
        stage.program = base

    def _flags(self, stage: Stage) -> None:
        at = ("stages", stage.name, "entry", "args")
        found = dict(self.given.written(*at) or {})
        swept = [one for one in self.variables.origins if one[:4] == at]
        for key in sorted({*found, *(one[-1] for one in swept)}):
            path = (*at, key)
            values = self.values.get(path, [])
            if found.get(key) is None and not values:
                continue
            flag = key if str(key).startswith("-") else f"--{key}"
            if isinstance(found.get(key), list) and not values:
                stage.words += [f"{shlex.quote(flag)} {shlex.quote(str(one))}" for one in found[key]]
                continue
            variable = self.variables.name(path, found.get(key))
            is_list = isinstance(self.variables.values[variable], list)
            style: Style = (
                "each" if is_list else "bare_or_false" if self.variables.is_boolean(variable) else "value"
            )
            stage.flags.append(Flag(flag, variable, style, None in values))

    def _outputs(self, stage: Stage) -> None:
        given, at = self.given, ("stages", stage.name, "outputs")
        for name in given.mapping(*at):
            stage.outputs.append(self._output(stage, name))
            stage.in_own_directory = True
        if stage.in_own_directory and given.has("stages", stage.name, "entry", "workdir"):
            reason = (
                "it has outputs, so it runs in a directory of its own; the project is $SFLOW_WORKSPACE_DIR"
            )
            given.say(reason, "stages", stage.name, "entry", "workdir")

    def _output(self, stage: Stage, name: str) -> dict[str, Any]:
        """Return an output: a file, files or a manifest by patterns, or a metric of a JSON document."""
        given, at = self.given, ("stages", stage.name, "outputs", name)
        kind = str(given.at(*at, "kind", default="file"))
        output: dict[str, Any] = {"name": plain_name(name), "kind": kind}
        if given.at(*at, "required") is not True:
            output["required"] = False
        if kind == "metric":
            output["path"] = [str(given.at(*at, "file"))]
            path = str(given.at(*at, "json_path", default="$")).removeprefix("$").lstrip(".")
            return {**output, "json": path} if path else output
        globs = given.texts(*at, "discover", "globs")
        if kind == "manifest":
            given.leave("the file is called OUTPUT.manifest.json", *at, "file")
        output["path"] = globs or ["**/*"]
        select = given.at(*at, "discover", "select", default="latest_step")
        if select != "latest_step" and kind == "file":
            given.say("one of several files is that with the highest step", *at, "discover", "select")
        return output

    def _inputs(self, stage: Stage) -> None:
        given, at = self.given, ("stages", stage.name, "inputs")
        for name in given.mapping(*at):
            here = (*at, name)
            flag, env = given.at(*here, "inject", "flag"), given.at(*here, "inject", "env")
            given.at(*here, "expects")
            if given.at(*here, "inject", "mode", default="path") != "path":
                given.say("it is passed as a path, or as its value", *here, "inject", "mode")
            if given.at(*here, "source", "kind") == "external_path":
                taken: dict[str, Any] = {"path": str(given.at(*here, "source", "path", default=TO_FILL_IN))}
            else:
                producer, output = given.at(*here, "source", "stage"), given.at(*here, "source", "output")
                taken = {"from": f"{producer}.outputs.{plain_name(str(output))}"}
            if given.at(*here, "required") is not True and "from" in taken:
                taken["required"] = False
            if env:
                taken["env"] = str(env)
            if flag:
                taken["arg"] = str(flag) if str(flag).startswith("-") else f"--{flag}"
            stage.inputs[plain_name(name)] = taken
        if any("arg" in one for one in stage.inputs.values()):
            stage.words.append("${{ inputs.args }}")

    def _request(self, name: str) -> Request:
        given, at = self.given, ("stages", name, "resources")
        found = {
            key: largest(self.values.get((*at, key), []), given.at(*at, key, default=_DEFAULTS[key]))
            for key in _DEFAULTS
        }
        if not isinstance(found["gpus_per_node"], int):
            sizing = given.at("stages", name, "gpu_sizing", "min_gpus_per_job", default=1)
            given.say(f"GPUs are asked for by number; here it is {sizing}", *at, "gpus_per_node")
            found["gpus_per_node"] = sizing
        times = [given.at(*at, "time_limit"), *self.values.get((*at, "time_limit"), ())]
        memory = given.at(*at, "mem")
        kind = given.at(*at, "gpu_type")
        constraint = given.at(*at, "constraint")
        of_kind = given.at("hardware", "gpu_types", str(kind), "slurm", "constraint") if kind else None
        return Request(
            partition=given.at(*at, "partition"),
            account=given.at(*at, "account"),
            qos=given.at(*at, "qos"),
            time=longest([str(one) for one in times if one is not None]),
            nodes=found["nodes"],
            gpus_per_node=found["gpus_per_node"],
            cpus=found["cpus_per_task"],
            memory=None if memory is None else str(memory),
            constraint=constraint or of_kind,
            extra=given.texts(*at, "extra_sbatch_args"),
            swept={
                ours: variable
                for key, ours in _SWEPT_REQUESTS.items()
                if (variable := self.variables.of((*at, key)))
            },
        )

    def _environment(self, name: str) -> dict[str, Any]:
        """Return a named environment; an empty one if there is nothing to set up."""
        given, at = self.given, ("environments", name)
        listed = given.at(*at, "source", default=[])
        found = {
            "modules": given.texts(*at, "modules"),
            "source": [dict(one) if isinstance(one, Mapping) else str(one) for one in listed],
            "env": {key: str(value) for key, value in dict(given.at(*at, "env", default={})).items()},
        }
        return {key: value for key, value in found.items() if value}

    def _runtime_env(self, name: str) -> dict[str, str]:
        runtime = str(self.given.peek("stages", name, "runtime") or "default")
        found = self.given.at("runtime", "user", runtime, "env", default={})
        return {str(key): shlex.quote(str(value)).strip("'") for key, value in dict(found).items()}

    def _mail(self) -> MailOrder | None:
        given, at = self.given, ("notifications", "email")
        to, when = given.texts(*at, "recipients"), str(given.at(*at, "when", default="afterany"))
        given.at(*at, "events")
        return MailOrder(to, when) if given.at(*at, "enabled") is True and to else None

    def _leave_others(self) -> None:
        for reason, path in _LEFT:
            if self.given.has(*path):
                self.given.leave(reason, *path)
        for name in self.given.mapping("stages"):
            self.given.leave("GPUs are asked for by number", "stages", name, "gpu_sizing")


_IN_PLACE = "outputs stay where tasks write them, in the run directory"
_LEFT: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "run directories are made in sflow_output; sflow-ctl run --output-dir names another",
        ("storage", "root"),
    ),
    ("sflow-ctl needs no interpreter of its own on the nodes but its agents'", ("runtime", "executor")),
    (_IN_PLACE, ("artifact_store", "strategy")),
    (_IN_PLACE, ("artifact_store", "fallback_strategy")),
    (_IN_PLACE, ("artifact_store", "verify_digest")),
    (_IN_PLACE, ("artifact_store", "fail_on_verify_error")),
    ("runs share one job, and wait there until they fit", ("dispatch", "overflow_policy")),
    ("the evaluation of a run begins when its training is done", ("dispatch", "release_policy")),
    ("the evaluation of a run begins when its training is done", ("dispatch", "window_size")),
    ("the evaluation of a run begins when its training is done", ("dispatch", "window_seconds")),
    (
        "there are no jobs for control: the controller runs inside the job; see sflow-ctl batch --until-done",
        ("orchestration",),
    ),
    ("GPUs are asked for by number", ("hardware",)),
    ("GPUs are asked for by number", ("sizing",)),
)


def _swept(given: Given) -> Swept:
    kind = given.at("runs", "type", default="single")
    if kind == "single":
        return Swept()
    return Swept(
        given.mapping("runs", "axes"),
        ("runs", "axes"),
        cases_at(given, "runs", "cases"),
        None,
        lambda path: (
            tuple(("" if path.startswith("stages.") else "stages.").split(".")[:-1]) + tuple(path.split("."))
        ),
    )


def read_experiment(given: Given) -> Experiment:
    """Return the experiment of a file of slurmforge 1.x."""
    return _Reading(given).experiment()

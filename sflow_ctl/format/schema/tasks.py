"""A task: its script, its resources and its dependencies."""

from typing import Annotated, Any, Literal

import msgspec

from sflow_ctl.format.schema.definitions import EnvironmentSteps, Variable
from sflow_ctl.format.schema.dependencies import Dependency
from sflow_ctl.format.schema.monitor import Monitor, NamedWindow
from sflow_ctl.format.schema.policies import Checkpoint, Hang, ProgressLines, Restart, Retries, Stop
from sflow_ctl.format.schema.probes import Probe, Probes
from sflow_ctl.format.schema.results import Input, Output, Success
from sflow_ctl.format.schema.sweep import BlockLoop, Foreach, Sweep, tasks_in
from sflow_ctl.format.schema.uploads import Result, Upload
from sflow_ctl.format.schema.values import COUNT, ITEMS, ONE, REGEXES, VALUES, Flag, IntExpr, Part, Time
from sflow_ctl.plan.words import Near, OnFailure, OnNodeLost, Pack, ReleaseAfter, Until


class Nodes(Part, frozen=True, kw_only=True):
    """Which nodes of the backend a task takes. Default: all of them, or as many as its GPUs need."""

    indices: list[IntExpr] | str | None = None
    """These nodes, by index from 0, or from the end with -1; an expression may give the whole list. With `count`, the nodes to
    count in."""
    count: IntExpr | None = None
    """This many nodes."""
    exclude: IntExpr | list[IntExpr] | None = None
    """Not these nodes, by index from 0, or from the end with -1."""
    release_after: ReleaseAfter | None = None
    """Claim the nodes, so that other tasks that ask for nodes get other ones: until the end of the run
    (`workflow_completion`), or for tasks that depend on this one until it is ready (`task_ready`) or has ended
    (`task_completion`). Default: the nodes are not claimed."""


class Gpus(Part, frozen=True, kw_only=True):
    """Which GPUs a task takes. At least one of `count` and `indices` is needed."""

    count: IntExpr | None = None
    """Number of GPUs over all of the task's nodes, the same on each; `auto` is as many as `memory` needs. Default: as many as
    `indices` name on each node."""
    memory: str | None = None
    """With `count: auto`: memory that the task needs on its GPUs together, for example `120G`."""
    safety: IntExpr = 1
    """With `count: auto`: factor for `memory`, at least 1, for example `1.2`."""
    round_to: IntExpr = 1
    """With `count: auto`: the number is rounded up to a multiple of this."""
    min: IntExpr = 1
    """With `count: auto`: the least number of GPUs."""
    max: IntExpr | None = None
    """With `count: auto`: more GPUs than this are an error. Default: no limit but the nodes."""
    indices: list[IntExpr] | str | None = None
    """These GPUs of each node, by number from 0; an expression may give the whole list."""
    release_after: ReleaseAfter | None = None
    """When tasks that depend on this one may get its GPUs: never (`workflow_completion`), when it is ready (`task_ready`; both
    then use them), or when it has ended (`task_completion`). Default: never for a task with a readiness probe, else when
    it has ended."""
    shared: Flag = False
    """Use GPUs without reserving them, so that other tasks may use them at the same time."""


class Resources(Part, frozen=True, kw_only=True):
    """What a task needs."""

    nodes: Annotated[Nodes, COUNT] | None = None
    """Which nodes, or how many; a number is short for `{count: NUMBER}`."""
    gpus: Annotated[Gpus, COUNT] | None = None
    """How many GPUs; a number is short for `{count: NUMBER}`. Without it a task sees every GPU of the job."""
    cpus: IntExpr | None = None
    """CPUs on each of its nodes: a task starts when they are free there, so no more tasks run at once than the node has CPUs for.
    Nothing keeps a task from using more. One that asks for more than the node has starts when it has the node to itself,
    apart from ready services. Default: none, and it starts at once."""
    memory: str | None = None
    """Memory on each of its nodes, with a unit, for example `8G`: it decides when the task starts, as `cpus` does."""


class GpuChoice(Part, frozen=True, kw_only=True):
    """Which GPUs of a node a task should get, by what the nodes' agents report. Where none of them fit it gets others."""

    pack: Pack = "none"
    """`nvlink`: GPUs that reach each other over NVLink; `numa`: GPUs of one NUMA node; `none`: the lowest free numbers."""
    near: Near = "none"
    """`nic`: GPUs that have an InfiniBand or RoCE card near, whose names the task finds in `SFLOW_TASK_NICS`."""


class Replicas(Part, frozen=True, kw_only=True):
    """Copies of a task: a number of them, or one for each value of variables with a domain."""

    count: IntExpr | None = None
    """Number of replicas. They are called `NAME_0`, `NAME_1`, ..."""
    policy: str = "parallel"
    """`parallel`: all at once; `sequential`: each after the one before has completed."""
    variables: list[str] | None = None
    """Variables to sweep: one replica for each combination of the values of their domains."""
    min_ready: IntExpr | None = None
    """For services: number of ready replicas that is enough for tasks that depend on them. Default: all."""


class Ports(Part, frozen=True, kw_only=True):
    """How many ports a name stands for."""

    count: IntExpr = 1
    """Number of ports."""
    contiguous: Flag = False
    """Choose consecutive port numbers."""


class ServedPort(Part, frozen=True, kw_only=True):
    """A port that a task's program serves on. Nothing is leased for it."""

    port: IntExpr
    """Number of the port, 1 to 65535."""
    name: str | None = None
    """Name for readers."""


class Launcher(Part, frozen=True, kw_only=True):
    """What starts the processes of a distributed script."""

    type: Literal["torchrun", "mpirun", "none"]
    """`torchrun`: the script runs once per node and torchrun finds its options in the environment; `mpirun`: on one node, with
    `$SFLOW_NPROC`; `none`: no launcher."""
    nproc: IntExpr | None = None
    """Processes on each node. `auto`, the default: the task's GPUs on a node, else 1."""


class File(Part, frozen=True, kw_only=True):
    """A file that is written just before its task starts. Exactly one of `content` and `from` is given."""

    content: str | None = None
    """Template of the content."""
    source: str | None = msgspec.field(default=None, name="from")
    """Name of an artifact, or a file of the workspace, to copy."""
    mode: str | None = None
    """Permissions, three octal digits in quotes, for example `"755"`."""


class PythonFunction(Part, frozen=True, kw_only=True):
    """A Python function, by its module or by its file. Exactly one of `module` and `file`."""

    module: str | None = None
    """Module and function, `package.module:function`. It is looked for in the working directory and by the interpreter."""
    file: str | None = None
    """File with the function; a relative path is in the workspace."""
    function: str = "main"
    """Name of the function in `file`."""
    interpreter: str = "python3"
    """Python interpreter, of version 3.8 or later, on the task's nodes. It needs nothing of sflow-ctl."""


class External(Part, frozen=True, kw_only=True):
    """Work that another system does: commands start it, look at it, and cancel it."""

    start: str
    """Shell script that starts the work. The last line that it prints is the id. `$EXTERNAL_KEY` is a text by which the other
    system can recognise a second request."""
    poll: str
    """Shell script that prints how far the work with the id `$EXTERNAL_ID` is. One that fails is tried again."""
    json: str | None = None
    """Path of the word in the JSON that `poll` prints, for example `state`. Default: the last line that it prints."""
    success: Annotated[list[str], ONE]
    """Words of `poll` that mean the end, and success."""
    failure: Annotated[list[str], ONE] = []
    """Words that mean the end, and failure. All others mean that the work is not done."""
    cancel: str | None = None
    """Shell script that ends the work with the id `$EXTERNAL_ID`, when the task is stopped."""
    find: str | None = None
    """Shell script that prints the id of the work that was started with `$EXTERNAL_KEY`, or nothing: after a crash between the
    start and the note of its id. Default: such a task fails, because a second start may be one too many."""
    every: Time = 10
    """Time between two looks."""
    lost_after: Time = 600
    """How long `poll` may fail before the task does."""


class Task(Part, frozen=True, kw_only=True, rename={"finally_": "finally", "with_": "with"}):
    """A named unit of the workflow."""

    name: str
    """Name of the task and of its directory. In the mapping form the key is the name."""
    uses: str | None = None
    """Preset that this task is made from: `etcd`, `nats`, `nginx`, `ray-head` or `redis`. Fields given here replace its
    fields."""
    key: str | None = None
    """Name of your own for each concrete task, beside its address: in `keys`, and wherever commands take tasks. Unique in a
    run, so a task with copies needs an expression, for example `fit-${{ variables.lr }}`."""
    with_: dict[str, Any] = {}
    """Parameters of the preset, for example `{jetstream: true}`; of a block its inputs."""
    block: str | None = None
    """Block that this task stands for: the tasks of the block run in its place, as `NAME.TASK`. `with` gives it its inputs."""
    loop: BlockLoop | None = None
    """Run the block several times, one after the other: `NAME_0.TASK`, `NAME_1.TASK`, ..."""
    script: Annotated[list[str], ONE]
    """Lines of the script, run by one bash; a text is a whole script. A failing line
    does not end it unless the task, its operator or the settings have `strict: true`."""
    python: PythonFunction | str | None = None
    """Function to call in place of a script: its arguments are the task's `inputs`, its result the `outputs`. A text is
    `package.module:function` or `path/file.py:function`."""
    packages: Annotated[list[str], ONE] = []
    """Python packages of the workspace that the task imports: folders, or `.py` files. The run keeps copies as they are when it
    begins, which are first on `PYTHONPATH`; changes after that do not matter, also when it is resumed."""
    external: External | None = None
    """Work that another system does, in place of a script: a process starts it, looks at it, and cancels it."""
    args: dict[str, Any] = {}
    """Arguments that a script has as `${{ args }}`, quoted: `{lr: 0.1}` is `--lr 0.1`; true is the flag alone, false and null
    are left out, a list is its members after the flag, a mapping is JSON. A key with a dash is taken as it is."""
    args_lists: Literal["joined", "repeated", "commas"] = "joined"
    """Lists in `args`: `--x 1 2`, `--x 1 --x 2` or `--x 1,2`."""
    args_json: str | None = None
    """Name of a file with all `args` as JSON, for example `args.json`: a script has its path as `${{ args_json }}`."""
    launcher: Launcher | Literal["torchrun", "mpirun", "none"] | None = None
    """What starts the script's distributed processes; a word is short for `{type: WORD}`."""
    requires: Literal["distributed"] | None = None
    """`distributed`: refuse the plan if only one process of the task would start."""
    operator: str | dict[str, Any] | None = None
    """Operator that starts the script: its name, or a mapping with its name and changed fields. Default: bash, once on each of
    the task's nodes."""
    environment: str | EnvironmentSteps | None = None
    """What is set up on the node before the script: the name of an entry of `environments`, or its fields. Default: the
    workflow's `environment`, else nothing; `none` is nothing in any case."""
    backend: str | dict[str, Any] | None = None
    """Backend whose nodes the task uses: its name, or a mapping with changed fields. Default: the default backend."""
    depends_on: Annotated[list[str | Dependency], ONE] = []
    """Tasks to wait for: names, or mappings with `task` and `until`. A single one needs no list."""
    when: bool | str | None = None
    """Condition: an expression that is true or false, evaluated when all that the task depends on is there. If it is false, the
    task is skipped, and so are tasks that depend on it, except with `until: settled` or for inputs that have a default."""
    required_by: Annotated[list[str], ONE] = []
    """Tasks that wait for this one: the other direction of `depends_on`. Names of missing tasks are passed over."""
    kind: Literal["task", "service"] | None = None
    """`service`: other tasks use it, and the run does not wait for its end; `task`: the run waits for it. Default: a task with a
    readiness probe is a service."""
    main: Flag = False
    """The run ends when all main tasks have ended, with their outcome."""
    finally_: bool | Literal["after_stop", "services_up"] = False
    """Run at the end of the run, also after failures: `after_stop` (or true) when everything else has been stopped,
    `services_up` while services still run."""
    resources: Resources | None = None
    """Nodes and GPUs that the task needs. Default: all nodes of its backend."""
    placement: GpuChoice | None = None
    """Which of a node's GPUs the task should get. They are chosen when it is ready to start, as are those of all tasks on its
    backend then. Default: the plan says which, from the lowest numbers on."""
    replicas: Annotated[Replicas, COUNT] | None = None
    """Copies of the task; a number is short for `{count: NUMBER}`."""
    foreach: Annotated[Foreach, ITEMS] | None = None
    """Copies of the task for the items of a list, which may be an output of other tasks; a list or an expression is short for
    `{items: ...}`. They are called `NAME_0`, `NAME_1`, ..., and one that fails does not stop the others."""
    sweep: Sweep | bool | None = None
    """A sweep of this task alone; or whether the workflow's sweep applies to it. Default: it does. A service that
    neither uses a swept value nor depends on a swept task runs once, for all cells."""
    retries: Annotated[Retries, COUNT] | None = None
    """New attempts after a failure; a number is short for `{count: NUMBER, interval: 1s}`."""
    restart: Restart | Literal["on_failure", "always"] | None = None
    """Restarts of a service; a word is short for `{policy: WORD}`."""
    on_failure: OnFailure | None = None
    """Effect of the task's failure on the run.

    `cancel` ends it, `drain` starts nothing new, `isolate` stops the tasks that depend on it, `continue`
    ignores it. Default: the workflow's.
    """
    on_node_lost: OnNodeLost | None = None
    """What happens when a node of the task is lost: `fail`: the task ends, whatever its retries; `elsewhere`: it is started again
    on a spare or another node, which does not count as a retry. Default: the workflow's."""
    critical: Flag = True
    """False is short for `on_failure: continue`."""
    stop: Stop | str | None = None
    """How the task is stopped; a text is short for `{signal: TEXT}`."""
    hang: Hang | None = None
    """How long the task may show no activity. Default: no limit."""
    progress: ProgressLines | None = None
    """Where its log says how far it is: shown while it runs."""
    success_exit_codes: list[IntExpr] = []
    """Exit statuses that count as success, beside 0."""
    fail_fast: bool | None = None
    """Start the script with `set -e`, so that a failing line fails the task; false also undoes `strict` of the operator and of
    the settings. Default: the operator's `strict`."""
    strict: Flag | None = None
    """Start the script with `set -euo pipefail`: a failing line fails the task, so does an unset variable, and so does a program
    in a pipe. Default: `fail_fast` if given, the operator's `strict`, else that of the settings."""
    log: Literal["piped", "direct"] = "piped"
    """How output gets into the task's log: `piped` loses no line, whatever the script redirects; `direct` lets the task
    write the file itself, which is faster for floods, but `> /dev/stderr` in a script then truncates it."""
    console: bool | Literal["errors"] = True
    """What `run` and `attach` print of the task's output: all of it, nothing with `false`, or with `errors` only lines that have
    a word such as error, exception, failed or traceback, with the indented lines below them. Its log has everything;
    `--only` prints nothing but the tasks it names."""
    probes: Probes | None = None
    """What makes the task ready, and what makes it fail."""
    ports: dict[str, IntExpr | Ports] | list[ServedPort] = {}
    """Ports to lease on the task's nodes, by name: how many, for example `{http: 1}`. Available as `${{ port.http }}` and
    `$SFLOW_PORT_HTTP`. A list, `[{port: 8000}]`, only tells other tasks where this one serves:
    `${{ task.NAME.service.url }}`."""
    files: dict[str, str | File] = {}
    """Files to write before the task starts: path in the task's directory to content."""
    checkpoint: Checkpoint | None = None
    """Checkpoints that the task's program writes: its next attempts continue from the newest. `{}` means all defaults."""
    outputs: Annotated[list[Output], ONE] = []
    """Files and values of the completed task, a list, or a mapping from names. Later tasks have them as `inputs`, or use
    `${{ task.NAME.outputs.KEY }}`."""
    inputs: Annotated[dict[str, Input], VALUES] = {}
    """Outputs of other tasks, files and values that the task is given, by name: `${{ inputs.NAME }}`, `$INPUT_NAME`, and as JSON
    in the file `$SFLOW_INPUTS_FILE`."""
    result: Annotated[Result, REGEXES] | None = None
    """Values for the task's `result.json`; a mapping from names to regular expressions is short for `patterns`."""
    uploads: list[Upload] = []
    """Files to copy to storage targets when the task has completed."""
    success: Success | None = None
    """Conditions besides an exit status of 0."""
    monitor: Monitor | None = None
    """Measure the nodes of the task while it runs, and report on them at the end of the run."""
    windows: list[NamedWindow] = []
    """Parts of the task's time, by lines of its log, whose CPU time, memory, GPU use and energy are in `summary.json`. A script
    can mark such windows itself: `sflow-ctl mark NAME`."""
    timeout: Time | None = None
    """Time limit of one attempt; for a service, of becoming ready: seconds or a duration. Default, or 0: no limit."""
    total_timeout: Time | None = None
    """Time limit of all attempts together, with the pauses between them, from the start of the first one. When it is over the
    task ends, and is not tried again. For tasks that end by themselves. Default, or 0: no limit."""
    queue_timeout: Time | None = None
    """Limit of the time in which no place is free for the task although what it depends on holds. Default, or 0: no limit."""
    variables: list[Variable] = []
    """Variables of this task alone; they replace others of the same name."""
    labels: dict[str, str] = {}
    """Words about the task for `--query label.NAME=VALUE` and for tables of results, for example `{stage: train}`; values may
    hold expressions. They change nothing of its work."""

    @property
    def leased_ports(self) -> dict[str, IntExpr | Ports]:
        """`ports` in the form that leases."""
        return self.ports if isinstance(self.ports, dict) else {}

    @property
    def served_ports(self) -> list[ServedPort]:
        """`ports` in the form that says where the task serves."""
        return self.ports if isinstance(self.ports, list) else []

    def probes_of(self, kind: Literal["readiness", "failure"]) -> tuple[Probe, ...]:
        """Return the probes of one kind."""
        return () if self.probes is None else self.probes.of(kind)

    @property
    def dependencies(self) -> list[Dependency]:
        """`depends_on`, every entry in its long form, and the tasks whose outputs it is given."""
        written = [Dependency(task=one) if isinstance(one, str) else one for one in self.depends_on]
        if not (self.inputs or self.foreach or self.block):
            return written  # nearly all tasks
        inferred = self._inferred(written) if self.inputs else []
        return [*written, *inferred, *self._needed_for_values([*written, *inferred])]

    def _needed_for_values(self, known: list[Dependency]) -> list[Dependency]:
        """Return the tasks that its items, or what its block is given, are made of, but those that it waits for already."""
        named = [] if self.foreach is None else self.foreach.tasks
        if self.block is not None:
            named = [*named, *tasks_in(self.with_)]
        if not named:
            return []
        ends = {one.task for one in known if one.until in ("completed", "settled", "finished")}
        return [Dependency(task=name, until="completed") for name in dict.fromkeys(named) if name not in ends]

    def _inferred(self, written: list[Dependency]) -> list[Dependency]:
        """Return the tasks that it waits for because of its inputs, but those that it waits for like that already."""
        inferred: dict[str, Dependency] = {}
        for one in self.inputs.values():
            may_lack = one.default is not None or one.required in (False, "false") or one.pick is not None
            until: Until = "settled" if may_lack else "completed"
            for source in one.source:
                task, _, output = source.rpartition(".outputs.")
                if task and output:
                    known = next((one for one in written if one.task == task), Dependency(task=task))
                    before = inferred.get(task)
                    is_all = one.items == "all" or (before is not None and before.items == "all")
                    inferred[task] = Dependency(
                        task=task,
                        until=until if before is None or until == "completed" else before.until,
                        cells=known.cells,
                        items="all" if is_all else "same",
                    )
        return [one for one in inferred.values() if one not in written]

    @property
    def is_service(self) -> bool:
        """True if the run need not wait for this task's end."""
        if self.kind is not None:
            return self.kind == "service"
        return bool(self.probes_of("readiness"))

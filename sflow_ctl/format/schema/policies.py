"""Consequences of failures, stops and inactivity: retries, restarts, checkpoints, stopping, hang detection; notices of a run."""

from typing import Annotated, Literal

from sflow_ctl.format.schema.values import ONE, Flag, IntExpr, Part, Time
from sflow_ctl.plan.parts.notices import NoticeEvent


class RetryCodes(Part, frozen=True, kw_only=True):
    """Exit statuses by which a program says whether another attempt has a point."""

    retry: list[IntExpr] | None = None
    """Retried while `count` lasts, whatever `reasons` says. Default: 75, the conventional "temporary failure"."""
    fatal: list[IntExpr] | None = None
    """Never retried. Default: 64 and 78, the conventional "wrong usage" and "wrong configuration"."""


class Retries(Part, frozen=True, kw_only=True):
    """New attempts after a failure; after the loss of a node on another one, unless the task names its nodes."""

    count: IntExpr
    """Number of attempts after the first one."""
    interval: Time
    """Pause before the first retry: seconds or a duration."""
    backoff: IntExpr = 1
    """Factor by which the pause grows with each retry; 1 keeps it constant."""
    max_interval: Time | None = None
    """The longest pause: seconds or a duration. Default: no limit."""
    reasons: list[str] | None = None
    """Retry only after failures with one of these reason words, for example `[node_lost, port_in_use]`; `[]` is none but those of
    `exit_codes`. Default: after every failure but a failure probe's and `bootstrap`."""
    exit_codes: RetryCodes | None = None
    """Exit statuses that decide by themselves. Default: 75 is retried, 64 and 78 are not."""
    infra_count: IntExpr | None = None
    """Further attempts after faults of nodes (`node_lost`, `agent_died`, `gpu_lost`, `ports`), which do not use up `count`.
    Default: 2, also without `retries`; 0 for services and tasks with `restart`; 3 for tasks whose work is done elsewhere, which
    then continue to watch it."""
    avoid_node: Flag | None = None
    """After `launch`, `gpu_lost`, `ports` or `node_lost` start on another node, if one can take the task. Default: true where
    `infra_count` has a default above 0."""


class Restart(Part, frozen=True, kw_only=True):
    """How a service is started again in its place, on the same nodes and GPUs."""

    policy: Literal["on_failure", "always"] = "on_failure"
    """`on_failure`: after failures, including those of a failure probe; `always`: after every end."""
    max: IntExpr = 3
    """Highest number of restarts within `window`."""
    backoff: Time = 1
    """Pause before a restart, doubled each time up to one minute: seconds or a duration."""
    window: Time | None = None
    """Time over which `max` counts, for example `10m`. Default: the whole run."""
    dependents: Literal["keep", "restart"] = "keep"
    """`keep`: running tasks that depend on the service continue; `restart`: they are restarted as well."""


class ResumeChoice(Part, frozen=True, kw_only=True, rename={"start": "from"}):
    """Which attempts continue from a checkpoint, and what happens where none, or not exactly one, is found."""

    after: Annotated[list[Literal["retry", "rerun", "resume"]], ONE] | None = None
    """Which attempts get a checkpoint: those after a `retry` (also a restart, or a start on another node), those of a `rerun`,
    and those of a run that was resumed (`resume`). Default: all of them."""
    none_found: Literal["fresh", "fail"] = "fresh"
    """What an attempt does that finds no checkpoint: begin anew, or fail."""
    ambiguous: Literal["fail", "fresh"] = "fail"
    """What it does where it is not clear which of several is meant: fail with the reason `input_error`, or begin anew."""
    start: str | None = None
    """A file or directory that the first attempt begins from, and later ones while there is no checkpoint of their own. A
    relative one is in the workspace; it must exist."""


class CheckpointInjection(Part, frozen=True, kw_only=True):
    """How the program gets the path of the checkpoint."""

    env: str = "RESUME_FROM_CHECKPOINT"
    """Environment variable for the path. It is empty where an attempt begins anew."""
    arg: str | None = None
    """Option for `${{ checkpoint.args }}`, which is the option and the path, or nothing where an attempt begins anew: for example
    `--resume_from_checkpoint`."""


class Checkpoint(Part, frozen=True, kw_only=True):
    """The checkpoints that a task writes, and how the one is found that its next attempt continues from.

    Only the task's own directory is searched, which all of its attempts share.
    """

    dir: str = "checkpoints"
    """Directory of the checkpoints, in the task's directory; `.` is that itself. The program finds it in `SFLOW_CHECKPOINT_DIR`,
    and makes it."""
    globs: Annotated[list[str], ONE] | None = None
    """Patterns of the files, or of the directories that are checkpoints as a whole; relative to `dir`. Names that end in `.tmp`,
    `.part` or `~` never count. Default: all files, `**/*`."""
    state_file: str | None = None
    """A file in `dir` by which the program itself says which checkpoint is its newest. What it says counts, whatever else is
    there: `{"checkpoint": "PATH", "step": N}`, or the path alone."""
    select: str = "latest"
    """`latest`: that of the highest step, else of the highest epoch; `best`: the latest whose name has the word best, else the
    latest; or a path or pattern in `dir`."""
    done_marker: str | None = None
    """The file that shows that a checkpoint is complete, for example `"{path}.done"` or `"{path}/COMPLETE"`; also `{dir}` and
    `{name}`. Default: files that are empty, or still grow, do not count."""
    step_regex: str | None = None
    """Regular expression that finds the step in a path, as its group `step` or its first one. Default: digits right after `step`,
    `global_step`, `iter`, `iteration`, `checkpoint`, `ckpt` or `epoch`, in the name of the file or of a folder."""
    resume: ResumeChoice | str = "auto"
    """Which attempts continue; a word is short for it: `auto`, `never`, `require` (an attempt that should continue
    and finds none fails), or a path as in `from`."""
    inject: CheckpointInjection | str = "RESUME_FROM_CHECKPOINT"
    """How the program gets the path; a text is the environment variable."""


class Stop(Part, frozen=True, kw_only=True):
    """How a task is stopped: its own command, then a signal, then SIGKILL."""

    command: str | list[str] | None = None
    """Command that asks the program to stop: text is a line for bash, a list is a program with its arguments. Example:
    `"nginx -s quit"`."""
    timeout: Time | None = None
    """Time for the task to be gone after the command has started. Default: 10 seconds."""
    signal: str | int | None = None
    """Signal for all processes of the task: a name with or without `SIG`, or a number. Default: SIGTERM."""
    grace: Time | None = None
    """Time between the signal and SIGKILL. Default: 5 seconds."""


class Hang(Part, frozen=True, kw_only=True):
    """How long a task may show no activity, and what inspects it before it is stopped."""

    no_output_for: Time | None = None
    """End the attempt after this long without output from any of its processes, for example `10m`."""
    no_gpu_use_for: Time | None = None
    """End the attempt after its GPUs have been idle for this long, according to NVIDIA's driver."""
    command: str | list[str] | None = None
    """Command that inspects the hung process, `$SFLOW_TASK_PID`; its output is kept in `TASK.hang.log`. Example:
    `"py-spy dump --pid $SFLOW_TASK_PID"`."""
    timeout: Time = 30
    """Time limit of that command: seconds or a duration."""
    when: Literal["until_ready", "always"] = "until_ready"
    """`until_ready`: a service is watched until it is ready; `always`: until its end. Other tasks are always watched."""


class ProgressLines(Part, frozen=True, kw_only=True):
    """How far a running task is, for those who look at the run."""

    log_regex: str
    r"""Regular expression for lines of its log, for example `step (\d+)/(\d+)`: what is done, and of how much. The last line that
    matches counts. Groups may be called `current`, `total`, `percent` and `message`. What the task writes to
    `$SFLOW_PROGRESS_FILE` goes before."""


class Notify(Part, frozen=True, kw_only=True):
    """A command, a webhook or a mail that is notified of the course of a run. The run does not wait for them before its end."""

    command: str | list[str] | None = None
    """Command to run where the controller runs: text is a line for bash, a list is a program with its arguments. It finds
    `SFLOW_NOTICE` (the event), `SFLOW_NOTICE_TEXT`, `SFLOW_NOTICE_TASK`, `SFLOW_RUN_ID`, `SFLOW_RUN_OUTCOME`,
    `SFLOW_RUN_EXIT_STATUS`, `SFLOW_RUN_COUNTS` (JSON: states and numbers of tasks) and `SFLOW_SUMMARY_FILE` in its environment,
    and all facts as JSON on its standard input."""
    webhook: str | None = None
    """Address to which the same JSON is posted; its `text` is what Slack and Mattermost show. List a variable that holds it in
    `secrets`."""
    mail: Annotated[list[str], ONE] = []
    """Addresses that the site's `mail` command writes to, from where the controller runs. Example: `you@example.org`."""
    when: Annotated[list[NoticeEvent | Literal["afterok", "afterany", "afternotok"]], ONE] = []
    """`ready`: all services are ready for the first time; `failure`: the first task has failed for good; `end`: the run has
    ended, in any way; `run_succeeded`, `run_failed`: it has ended with status 0, or with another one; `task_succeeded`,
    `task_failed`, `task_finished`: a task has completed, has failed for good, or has ended in any way, at most 100 of them.
    `progress_stalled`: a task has printed nothing for as long as `after` says, or not changed `$SFLOW_PROGRESS_FILE` if it has
    written that; it is not ended for it.
    Slurm's `afterok`, `afternotok` and `afterany` are `run_succeeded`, `run_failed` and `end`. Default: `end`."""
    task: Annotated[list[str], ONE] = []
    """Tasks whose events are sent, names or patterns such as `train*`. Default: all."""
    after: Time | None = None
    """With `progress_stalled`: the silence that counts, for example `10m`. Services that are ready are left out."""
    timeout: Time = 10
    """Time limit of the command, or of the webhook's answer; at most one minute."""

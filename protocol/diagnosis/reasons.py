"""The words for why an attempt or a task ended: one table, for checks of a file, for people and for `docs/format.md`."""

from typing import Literal

from msgspec import Struct

By = Literal["task", "log", "job", "rule", "run"]
"""The source of a reason: the end of its process, its log (`signatures.toml`), what ran its job, a rule of the file, the run."""


class Meaning(Struct, frozen=True):
    """One word, and its meaning as the reason of an end."""

    word: str
    by: By
    text: str
    may_retry: bool = True
    """Whether `retries.reasons` may name it."""


MEANINGS: tuple[Meaning, ...] = (
    Meaning(
        "exit",
        "task",
        "its process ended with a status other than 0 (or with 0), and no better cause is known",
    ),
    Meaning(
        "signal", "task", "a signal killed it, or a program in its script (status 128 + number of a crash)"
    ),
    Meaning(
        "oom",
        "task",
        "the kernel killed a process for lack of memory (the cgroup's counter, the kernel's log), or it could not allocate more",
    ),
    Meaning(
        "launch",
        "task",
        "a program could not be started: missing, not executable, bad `#!` line, wrong directory, command too long",
    ),
    Meaning(
        "bootstrap",
        "task",
        "its `environment` could not be set up: a module, a file, an activation or a line of `before` failed; it is retried "
        "only where `retries.reasons` names it",
    ),
    Meaning("port_in_use", "log", "an address that it needs was in use; the sentence names port and owner"),
    Meaning("cuda_oom", "log", "a GPU had too little memory"),
    Meaning("cuda", "log", "CUDA failed: no device, an illegal access, a lost GPU, a driver too old"),
    Meaning("nccl", "log", "a collective operation failed or timed out; another rank often has the cause"),
    Meaning("disk_full", "log", "the file system that it wrote to was full, or the quota was used up"),
    Meaning("image", "log", "the container image could not be pulled"),
    Meaning("traceback", "log", "a Python exception; its last line is the sentence"),
    Meaning("job_timeout", "job", "its job of its own has reached the time limit of the job"),
    Meaning("job_cancelled", "job", "its job of its own was cancelled, and not by the run"),
    Meaning("job_preempted", "job", "its job of its own had to make room for another one"),
    Meaning("job_node_failed", "job", "a node of its job of its own has failed"),
    Meaning(
        "no_output", "rule", "it ended with status 0, and a file of `success: files` is missing or too small"
    ),
    Meaning("success", "rule", "it ended with status 0, and another condition of `success` does not hold"),
    Meaning(
        "output_missing",
        "rule",
        "it ended with success, and an output that it must have is not there, or is older than the attempt",
    ),
    Meaning(
        "output_error",
        "rule",
        "it ended with success, and an output is of another type, is not clear, has too many files, or cannot be read",
    ),
    Meaning(
        "upload", "rule", "it ended with success, and an upload with `on_error: fail` failed", may_retry=False
    ),
    Meaning("timeout", "rule", "it did not end (or, a service, was not ready) within its `timeout`"),
    Meaning(
        "not_ready",
        "rule",
        "it was not ready within the `deadline` of its readiness probe, or ended with status 0 before it was",
    ),
    Meaning("hang", "rule", "it was inactive for longer than its `hang` allows"),
    Meaning("probe", "rule", "its failure probe triggered"),
    Meaning("expression", "rule", "an expression could not be evaluated at its start", may_retry=False),
    Meaning(
        "input_error",
        "rule",
        "what it needs before it may start is missing, has changed, or is not clear: an input, or the checkpoint that it "
        "continues from",
        may_retry=False,
    ),
    Meaning("ports", "run", "its node could not lease the ports that it needs"),
    Meaning(
        "kept",
        "run",
        "it waited for GPUs or nodes that `release_after: workflow_completion` keeps until the run ends",
        may_retry=False,
    ),
    Meaning("gpu_lost", "run", "a GPU that it used was lost, or had an error that only a reset repairs"),
    Meaning("node_lost", "run", "its node's agent is silent or gone"),
    Meaning(
        "agent_died", "run", "its node's agent died, its processes with it, and another one was started there"
    ),
    Meaning(
        "time_limit", "run", "the time limit of the workflow or the Slurm job was reached", may_retry=False
    ),
    Meaning("preempted", "run", "Slurm took the nodes for another job", may_retry=False),
    Meaning("cancelled", "run", "the Slurm job was cancelled", may_retry=False),
    Meaning("interrupted", "run", "the run was stopped by a signal", may_retry=False),
    Meaning("stopped", "run", "an operator stopped it: `sflow-ctl stop`", may_retry=False),
    Meaning(
        "removed", "run", "another plan was applied that does not have it: `sflow-ctl apply`", may_retry=False
    ),
    Meaning("fail_fast", "run", "another failure ended the run", may_retry=False),
    Meaning(
        "upstream",
        "run",
        "a task that it needs has failed, so it was stopped or never started",
        may_retry=False,
    ),
    Meaning("when", "rule", "its condition `when` was false: it was skipped", may_retry=False),
    Meaning(
        "upstream_skipped",
        "run",
        "a task that it needs was skipped because of a condition, so it was skipped as well",
        may_retry=False,
    ),
    Meaning("cell_complete", "run", "all else of the task's cell of a sweep had ended", may_retry=False),
    Meaning(
        "enough", "run", "enough copies of the task had completed (`success: {min_count}`)", may_retry=False
    ),
    Meaning("run_complete", "run", "the run was complete, and the service no longer needed", may_retry=False),
    Meaning("not_chosen", "run", "a rerun of other tasks left it as it was", may_retry=False),
    Meaning("resumed", "run", "it had completed before the run was resumed", may_retry=False),
    Meaning("reused", "run", "its result is that of another run: `run --reuse`", may_retry=False),
)
WORDS = frozenset(meaning.word for meaning in MEANINGS)
LOG_WORDS = tuple(meaning.word for meaning in MEANINGS if meaning.by == "log")
SIGNATURE_WORDS = ("oom", "launch", *LOG_WORDS)
"""Known words that a signature may use; it may also use one of its own."""
RETRY_WORDS = tuple(meaning.word for meaning in MEANINGS if meaning.may_retry)

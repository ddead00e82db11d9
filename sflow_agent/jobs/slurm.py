"""Jobs of Slurm of their own, by sbatch, squeue, sacct and scancel.

The exit status is what the job itself writes into the task's directory; Slurm is asked for what it does not write: that it waits,
that it was ended. Sites differ in what accounting says, so it is asked for one field, and only about jobs unknown to squeue.
"""

import contextlib
import json
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from protocol.machine.marks import ATTEMPT_MARKER, RANK_MARKER, RUN_MARKER
from protocol.messages.jobs import JobSpec
from protocol.plugins import WorkState
from sflow_agent.jobs.driver import JobError, failure, run
from sflow_agent.jobs.following import FollowedFile

ASK_WITHIN_S = 30.0
END_SEEN_AFTER_S = 30.0
"""How long an end that Slurm reports waits for the exit status in the file: a file system over the network lags."""
GONE_AFTER_S = 60.0
"""How long a job must be unknown to squeue and sacct before it counts as gone."""
_ENDED = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
        *("PREEMPTED", "REVOKED", "TIMEOUT", "LAUNCH_FAILED", "RECONFIG_FAIL"),
    }
)
"""Source: squeue(1), Slurm 24.11, "JOB STATE CODES". A job that is requeued is PENDING, REQUEUED or COMPLETING again."""
_REASONS = {
    "TIMEOUT": "job_timeout",
    "DEADLINE": "job_timeout",
    "OUT_OF_MEMORY": "oom",
    "NODE_FAIL": "job_node_failed",
    "BOOT_FAIL": "job_node_failed",
    "PREEMPTED": "job_preempted",
    "CANCELLED": "job_cancelled",
    "REVOKED": "job_cancelled",
}
_OF_SIGNALS = 128
"""A shell's status for a command that a signal ended is this and the signal's number: Slurm may have sent it."""
WORD_WITHIN_S = 5.0
"""How long an end by a signal waits for Slurm's word, beside the time until Slurm is asked again."""
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")
_DROPPED = (RUN_MARKER, ATTEMPT_MARKER, RANK_MARKER, "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_SCRIPT = """\
#!/bin/bash
# A task of sflow-ctl. Runs once, however often it was submitted; another start of the same job runs it again.
base={base}
if ! ln -s "$SLURM_JOB_ID" "$base.claim" 2>/dev/null && [ "$(readlink "$base.claim")" != "$SLURM_JOB_ID" ]; then
  echo "sflow: job $(readlink "$base.claim") runs this task already" >&2
  exit 75
fi
cd {cwd} || exit 72
{command} &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM
wait "$child"; status=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
echo "$status" > "$base.exit.part" && mv "$base.exit.part" "$base.exit"
exit "$status"
"""


class SlurmJobs:
    """One task's job. A `Driver`."""

    def __init__(
        self,
        spec: JobSpec,
        command: Sequence[str],
        directory: str,
        run_directory: str,
        env: Mapping[str, str],
        cwd: str,
    ) -> None:
        self.every_s = 1.0
        self._asks_every_s = spec.every_s
        self._spec, self._command, self._cwd = spec, command, cwd
        self._directory, self._states = directory, _SharedStates(f"{run_directory}/.sflow", spec.every_s)
        self._env = job_environment(env)
        self._base = ""
        self._log: FollowedFile | None = None
        self._ended_at: float | None = None
        self._signalled_at: float | None = None
        self._is_cancelled = False
        self._missing_since: float | None = None
        self._last = WorkState("pending", text="submitted")
        self._claimed = ""

    def submit(self, key: str) -> str:
        """Submit the job and return its number."""
        self._use(key)
        script = f"{self._base}.sh"
        text = _SCRIPT.format(
            base=shlex.quote(self._base), cwd=shlex.quote(self._cwd), command=shlex.join(self._command)
        )
        with open(script, "w", encoding="utf-8", errors="surrogateescape", opener=_private) as file:
            file.write(text)
        argv = [
            *("sbatch", "--parsable", f"--job-name={self._spec.name}", f"--comment=sflow:{key}"),
            *(f"--output={_literal(self._base)}.log", "--open-mode=append", "--export=ALL", "--requeue"),
            *self._spec.options,
            script,
        ]
        ran = run(argv, self._env)
        if ran.returncode:
            raise failure("sbatch has refused the job", ran)
        said = ran.stdout.decode(errors="replace").split()
        number = said[-1].partition(";")[0] if said else ""
        if not number.isdecimal():
            raise JobError(f"sbatch has not printed a job's number but {' '.join(said)!r}")
        return number

    def find(self, key: str) -> str | None:
        """Return the number of the job with a key: the job has said it, or squeue knows it by its comment."""
        self._use(key)
        if claimed := self._claim():
            return claimed
        ran = run(["squeue", "--me", "--noheader", "--states=all", "--format=%i|%k"], self._env, ASK_WITHIN_S)
        if ran.returncode:
            raise failure("squeue cannot say whether the job was submitted", ran)
        for line in ran.stdout.decode(errors="replace").splitlines():
            number, _, comment = line.strip().partition("|")
            if comment == f"sflow:{key}":
                return number
        return None

    def use(self, key: str) -> None:
        """Follow the job with a key that was submitted before."""
        self._use(key)

    def poll(self, id: str) -> WorkState:
        """Return how far the job is."""
        claimed = self._claim()
        if claimed and claimed != id and not self._claimed:
            self._claimed = claimed  # it was submitted twice, and this one has come first
        id = self._claimed or id
        if (code := self._exit_code()) is not None:
            return self._ended(id, code)
        state, reason = self._states.of(id, self._env)
        now = time.monotonic()
        if state in _ENDED:
            self._ended_at = now if self._ended_at is None else self._ended_at
            if now - self._ended_at < END_SEEN_AFTER_S and state in ("COMPLETED", "FAILED"):
                return WorkState("running", text=f"{state}, its exit status is still to come")
            return _end(state)
        self._ended_at = None
        if state:
            self._missing_since = None
            kind = "pending" if state in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD") else "running"
            text = f"{state} ({reason})" if reason and reason != "None" and kind == "pending" else state
            self._last = WorkState("pending" if kind == "pending" else "running", text=text)
            return self._last
        return self._gone(id, now)

    def cancel(self, id: str) -> None:
        """Cancel the job."""
        self._is_cancelled = True
        ran = run(["scancel", "--quiet", self._claimed or id], self._env, ASK_WITHIN_S)
        if ran.returncode and b"already" not in ran.stderr and b"nvalid job id" not in ran.stderr:
            raise failure("scancel has failed", ran)

    def follow(self) -> bytes:
        """Return what the job has printed since the last call."""
        return b"" if self._log is None else self._log.read()

    # ------------------------------------------------------------------ files

    def _use(self, key: str) -> None:
        base = f"{self._directory}/.sflow_job.{key}"
        if base != self._base:
            self._base, self._log = base, FollowedFile(f"{base}.log")

    def _claim(self) -> str:
        try:
            return os.readlink(f"{self._base}.claim")  # noqa: PTH115 - text, as everywhere here
        except OSError:
            return ""

    def _exit_code(self) -> int | None:
        try:
            with open(f"{self._base}.exit", encoding="ascii") as file:  # noqa: PTH123
                return int(file.read())
        except (OSError, ValueError):
            return None

    # ------------------------------------------------------------------ what only Slurm knows

    def _ended(self, id: str, code: int) -> WorkState:
        """Return the end of a job that has written its exit status: with Slurm's reason, if a signal has ended its command."""
        if code < _OF_SIGNALS or self._is_cancelled:
            return WorkState("ended", code)
        now = time.monotonic()
        self._signalled_at = now if self._signalled_at is None else self._signalled_at
        try:
            state = self._states.of(id, self._env)[0] or _accounted(id, self._env)
        except JobError:
            state = ""
        if state in _ENDED:
            return _end(state, code)
        if now - self._signalled_at >= self._asks_every_s + WORD_WITHIN_S:
            return WorkState("ended", code)
        return WorkState("running", text="ended by a signal; Slurm's word for it is still to come")

    def _gone(self, id: str, now: float) -> WorkState:
        """Return the state of a job that squeue does not list any more."""
        if self._missing_since is None:
            self._missing_since = now
        state = _accounted(id, self._env)
        if state in _ENDED:
            if state not in ("COMPLETED", "FAILED") or now - self._missing_since >= END_SEEN_AFTER_S:
                return _end(state)
        elif now - self._missing_since >= GONE_AFTER_S:
            return WorkState(
                "ended", None, "neither squeue nor sacct know it, and it has not written its exit status"
            )
        return self._last


def _end(state: str, code: int | None = None) -> WorkState:
    code = 0 if code is None and state == "COMPLETED" else code
    return WorkState("ended", code, f"Slurm says {state}", _REASONS.get(state, ""))


def job_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that a job is submitted with: nothing of the job and the node that the watcher is on."""
    return {
        name: value
        for name, value in env.items()
        if name in _KEPT
        or not (name.startswith(("SLURM_", "SBATCH_", "SRUN_", "SALLOC_")) or name in _DROPPED)
    }


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o700)


def _literal(path: str) -> str:
    """Return a file name without the patterns of sbatch. Source: sbatch(1), "filename pattern"."""
    return path.replace("%", "%%")


def _accounted(id: str, env: Mapping[str, str]) -> str:
    """Return the state that accounting has of a job; empty if it has none, or is not there."""
    try:
        ran = run(["sacct", "-n", "-X", "-P", "-j", id, "-o", "State"], env, ASK_WITHIN_S)
    except JobError:
        return ""
    words = ran.stdout.decode(errors="replace").split() if ran.returncode == 0 else []
    return words[0].rstrip("+") if words else ""


class _SharedStates:
    """The states of all jobs of the user, asked for once for all watchers of the run on this machine."""

    def __init__(self, directory: str, every_s: float) -> None:
        self._path, self._every_s = f"{directory}/jobs.json", every_s

    def of(self, id: str, env: Mapping[str, str]) -> tuple[str, str]:
        """Return state and reason of a job; empty if squeue does not list it. Raises: JobError."""
        states = self._fresh()
        if states is None:
            with _locked(f"{self._path}.lock"):
                states = self._fresh()
                if states is None:
                    states = self._asked(env)
        found = states.get(id, ["", ""])
        return found[0], found[1]

    def _fresh(self) -> dict[str, Any] | None:
        try:
            with open(self._path, encoding="utf-8") as file:  # noqa: PTH123
                known = json.load(file)
            age = time.time() - known["at"]  # noqa: TID251 - of processes of one machine, for display's sake only
            return known["states"] if 0 <= age < self._every_s else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _asked(self, env: Mapping[str, str]) -> dict[str, Any]:
        ran = run(["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%r"], env, ASK_WITHIN_S)
        if ran.returncode:
            raise failure("squeue does not answer", ran)
        states = {}
        for line in ran.stdout.decode(errors="replace").splitlines():
            number, _, rest = line.strip().partition("|")
            state, _, reason = rest.partition("|")
            states[number] = [state, reason]
        part = f"{self._path}.{os.getpid()}"
        with contextlib.suppress(OSError), open(part, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump({"at": time.time(), "states": states}, file)  # noqa: TID251
            file.close()
            os.rename(part, self._path)  # noqa: PTH104
        return states


@contextlib.contextmanager
def _locked(path: str) -> "Any":
    """Hold a lock; without it where the file system has none."""
    import fcntl

    descriptor = -1
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)

"""Entry point of a watcher: `python -I -X utf8 -m sflow_agent.jobs COMMAND...`, as a rank of the agent.

Its environment is the task's. Exits as the job does; 143 if it was stopped; 1 with a sentence for what stands in the way.
"""

import hashlib
import os
import select
import signal
import sys
import time

import msgspec

from protocol.messages.jobs import CANCEL_VARIABLE, JOB_VARIABLE, POLL_VARIABLE, JobSpec
from sflow_agent.job_notes.record import RecordFile
from sflow_agent.jobs.driver import Driver, JobError
from sflow_agent.jobs.watching import JobWatch


class Process:
    """This process. `Surroundings` of the watch."""

    def __init__(self) -> None:
        self.is_stopped = False
        self._agent = os.getppid()
        self._wake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)

    @property
    def is_abandoned(self) -> bool:
        """Return whether the agent has ended: another process is the parent then."""
        return os.getppid() != self._agent

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until the task is stopped."""
        if self.is_stopped:
            time.sleep(min(seconds, 0.2))
        else:
            select.select([self._wake], [], [], seconds)

    def say(self, text: str) -> None:
        """Print a line of the watcher's own."""
        self.show(f"sflow: {text}\n".encode(errors="replace"))

    def show(self, output: bytes) -> None:
        """Print what the job has printed."""
        view = memoryview(output)
        while len(view):
            view = view[os.write(1, view) :]

    def _stop(self, _number: int, _frame: object) -> None:
        self.is_stopped = True


def main() -> int:
    """Watch the task's job; return the exit status."""
    around = Process()
    env = dict(os.environ)
    text = env.pop(JOB_VARIABLE)
    spec = msgspec.json.decode(text, type=JobSpec)
    command, directory = sys.argv[1:], env["SFLOW_TASK_OUTPUT_DIR"]
    looks = [env.get(name, "") for name in (POLL_VARIABLE, CANCEL_VARIABLE)]
    digest = hashlib.sha256("\0".join([text, *looks, *command]).encode(errors="surrogateescape")).hexdigest()
    try:
        os.makedirs(directory, 0o700, exist_ok=True)  # noqa: PTH103 - text, as everywhere here
        driver = _driver(spec, command, directory, env)
        return JobWatch(driver, RecordFile(directory), around, digest, spec.lost_after_s).run()
    except (JobError, ValueError) as error:
        around.say(str(error))
    except OSError as error:
        around.say(f"{error.filename or directory}: {error.strerror or error}")
    return 1


def _driver(spec: JobSpec, command: list[str], directory: str, env: dict[str, str]) -> Driver:
    cwd = os.getcwd()  # noqa: PTH109 - text
    if spec.kind == "commands":
        from sflow_agent.jobs.commands import Commands

        return Commands(spec, command, directory, env)
    if spec.kind == "plugin":
        from sflow_agent.jobs.plugin import PluginJobs

        return PluginJobs(spec, command, directory, env, cwd)
    from sflow_agent.jobs.slurm import SlurmJobs

    return SlurmJobs(spec, command, directory, env["SFLOW_WORKFLOW_OUTPUT_DIR"], env, cwd)


if __name__ == "__main__":
    sys.exit(main())

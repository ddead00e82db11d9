"""The run directory: made complete under another name, then renamed, so a directory that exists can be read.

Layout: `docs/architecture.md`. Mode 0700; this module writes everything in it but the logs and the journal.
"""

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from protocol.errors import RunDirectoryError
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.plan.model import Plan

MADE_AT_ONCE = 256
"""Task directories that exist before the first task starts; the others come while it runs."""


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`run.json`: who runs this, where, since when."""

    run_id: str
    workflow: str
    host: str
    pid: int
    pid_started: int
    """Kernel start time of the controller in clock ticks after boot: with `pid`, it names the process
    for good.
    """
    started_wall_ns: int
    version: str
    argv: tuple[str, ...]
    incarnation: int = 1
    """Counts the controllers of the run."""
    marker: str = ""
    """In the environment of everything that its agents start."""


class ConnectionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`connection.json`: how a viewer reaches a running controller. 0600, removed at the end."""

    run_id: str
    pid: int
    host: str
    client_endpoints: tuple[str, ...]
    controller_key: str
    viewer_public: str
    viewer_secret: str


def make_run_id(workflow: str) -> str:
    """`[<slurm job id>-]<workflow>-<date>-<time>-<6 hex digits>`, local time."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("SLURM_JOBID")
    prefix = f"{job}-" if job else ""
    return f"{prefix}{workflow}-{stamp}-{os.urandom(3).hex()}"


def process_start_ticks(pid: int) -> int:
    """When a process started, in clock ticks after boot; 0 when there is none. Source: proc(5), stat
    field 22.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat.rpartition(b")")[2].split()[19])


class RunDirectory:
    """Makes and fills one run's directory."""

    def __init__(self, output_dir: Path, run_id: str) -> None:
        self.path = output_dir / run_id
        self.run_id = run_id
        self._building = output_dir / f".{run_id}.building"

    def create(self, plan: Plan, workflow_yaml: str, facts: RunFacts, nonce: str) -> None:
        """Makes the directory with everything that is known before the first task starts.

        Raises: RunDirectoryError; nothing is left behind then.
        """
        try:
            self._building.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                raise RunDirectoryError.of(
                    "run-directory-exists",
                    f"the run directory {self.path} exists already",
                    hint="start the run again",
                )
            self._building.mkdir(mode=0o700)
            self._fill(self._building, plan, workflow_yaml, facts, nonce)
            self._building.rename(self.path)
        except OSError as error:
            shutil.rmtree(self._building, ignore_errors=True)
            raise RunDirectoryError.of(
                "run-directory-not-writable",
                f"cannot make the run directory {self.path}: {error.strerror or error}",
                where=str(error.filename or self.path),
                hint="choose another place with --output-dir",
            ) from error

    def reopen(self, plan: Plan, workflow_yaml: str, facts: RunFacts, nonce: str) -> None:
        """Goes on in a directory that exists. What it holds of the run stays; how it ended before is kept beside.

        Raises: RunDirectoryError.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                (self.path / "summary.json").rename(self.path / f"summary.{facts.incarnation - 1}.json")
            self.remove_connection()
            self._fill(self.path, plan, workflow_yaml, facts, nonce)
        except OSError as error:
            raise RunDirectoryError.of(
                "run-directory-not-writable",
                f"cannot go on in the run directory {self.path}: {error.strerror or error}",
                where=str(error.filename or self.path),
            ) from error

    def _fill(self, root: Path, plan: Plan, workflow_yaml: str, facts: RunFacts, nonce: str) -> None:
        (root / "workflow.yaml").write_text(workflow_yaml)
        (root / "plan.json").write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=1))
        (root / "run.json").write_bytes(msgspec.json.encode(facts) + b"\n")
        (root / ".nonce").write_text(nonce)
        for task in plan.tasks[:MADE_AT_ONCE]:
            _make_task_directory(os.fspath(root), task.name)
        for path, content in plan.files:
            target = Path(path)
            if not target.is_absolute():
                target = root / target
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)

    def make_the_rest(self, plan: Plan) -> Callable[[], None]:
        """Makes the other tasks' directories beside the run; returns what waits for the end of that.

        Thousands of directories take a tenth of a second each thousand, and the first task need not wait for the last
        one's. Agents make a directory that is not there yet themselves.
        """
        rest = plan.tasks[MADE_AT_ONCE:]
        if not rest:
            return lambda: None

        def make() -> None:
            for task in rest:
                with contextlib.suppress(OSError):  # whoever starts the task will hit it, and say so
                    _make_task_directory(os.fspath(self.path), task.name)

        thread = threading.Thread(target=make, name="task-directories", daemon=True)
        thread.start()
        return thread.join

    def write_connection(self, facts: ConnectionFacts) -> None:
        """Lets viewers of the same user connect."""
        descriptor = os.open(self.path / "connection.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(facts) + b"\n")

    def remove_connection(self) -> None:
        """Nobody can connect any more."""
        (self.path / "connection.json").unlink(missing_ok=True)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file by rename: readers see the old one or the new one, never a part."""
        target = self.path / name
        temporary = target.with_name(f".{target.name}.{os.urandom(3).hex()}")
        temporary.write_bytes(content)
        temporary.rename(target)


def _make_task_directory(root: str, name: str) -> None:
    # Not pathlib: thousands of tasks, and each is three system calls.
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{root}/{name}", 0o700)  # noqa: PTH102
    os.close(os.open(f"{root}/{log_path(name)}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def run_facts(
    run_id: str, workflow: str, version: str, argv: tuple[str, ...], incarnation: int, marker: str
) -> RunFacts:
    """The facts of a run that this process starts now."""
    return RunFacts(
        run_id=run_id,
        workflow=workflow,
        host=socket.gethostname(),
        pid=os.getpid(),
        pid_started=process_start_ticks(os.getpid()),
        started_wall_ns=time.time_ns(),
        version=version,
        argv=argv,
        incarnation=incarnation,
        marker=marker,
    )

"""Makes the run directory complete under another name, then renames it, so a directory that exists can be read.

Names are in `layout.py`. Directories are 0700, files 0600. Everything in a run directory but the logs and the
journal is written here.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec

from protocol.errors import RunDirectoryError
from protocol.machine.log_file import open_log
from protocol.machine.loop_signals import QuietThread
from sflow_ctl.plan.copies.task_list import names_of
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.catalog.registry import remember_run
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import Claim, encode_claim, supervisor_pid
from sflow_ctl.runtime.record.disk import unwritable
from sflow_ctl.runtime.record.durable import (
    UNREADABLE,
    Content,
    read_regular,
    sync_directory,
    sync_together,
    write_durably,
    write_for_now,
    write_new,
)
from sflow_ctl.runtime.record.plan_file import encode_plan
from sflow_ctl.runtime.record.plan_growth import read_plan_file
from sflow_ctl.runtime.record.processes import process_start_ticks, process_world
from sflow_ctl.runtime.record.sources import SourceFile
from sflow_ctl.runtime.run.options import Lineage, RunOptions
from sflow_ctl.runtime.run.remembered import remember
from sflow_ctl.version import VERSION

MADE_AT_ONCE = 256
"""Task directories made before the first task starts; the others are made while it runs."""


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """Another plan that was applied to a live run."""

    number: int
    """Of the plan that it made, from 2."""
    wall_ns: int
    """When it was applied, in ns since 1970."""
    by: str
    """Who has applied it."""
    argv: tuple[str, ...]
    """The command."""
    text: str
    """What it has changed, as a sentence."""


RUN_FORMAT = 1
"""Grows when a field of `run.json` changes its meaning, or a file of the run directory moves."""


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`run.json`: the controller, its host, start time and options."""

    run_id: str
    workflow: str
    host: str
    pid: int
    pid_started: int
    """Kernel start time of the controller in clock ticks after boot: with `pid`, it identifies the process.
    """
    started_wall_ns: int
    version: str
    """Of sflow-ctl."""
    format: int = 1
    """The format of the run directory, RUN_FORMAT when it was written."""
    argv: tuple[str, ...]
    """The command that began the run."""
    resumes: tuple[tuple[str, ...], ...] = ()
    """The commands that resumed it, oldest first."""
    options: dict[str, Any] = {}
    """The options of the command line that a resume needs; `run/remembered.py` has the list."""
    sources: tuple[SourceFile, ...] = ()
    """The workflow files; their text is in `workflow.yaml`."""
    directory: str = ""
    """Where the run directory was when this was written."""
    incarnation: int = 1
    """Counts the controllers of the run."""
    lineage: int = 0
    """The controller whose run this one has taken over, directly or from a successor; 0 for a controller that began by itself."""
    marker: str = ""
    """The marker in the environment of all processes that its agents start."""
    earlier_markers: tuple[str, ...] = ()
    """Those of earlier controllers, oldest first."""
    labels: dict[str, str] = {}
    """Words about the run: `workflow.labels`, and those of `--label`."""
    derived_from: Lineage | None = None
    """The run that it is a replay of, or that it was copied from; null for a run of its own."""
    revisions: tuple[Revision, ...] = ()
    """The plans that were applied to it while it lived, oldest first."""

    def markers(self) -> tuple[str, ...]:
        """Return the markers of all controllers of the run, oldest first."""
        return (*self.earlier_markers, self.marker) if self.marker else self.earlier_markers


class ConnectionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`connection.json`: how a viewer reaches a running controller. 0600, removed at the end."""

    run_id: str
    pid: int
    host: str
    client_endpoints: tuple[str, ...]
    controller_key: str
    viewer_secret: str
    """Z85, as all keys; its public half follows from it."""


class OperatorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`operator.json`: the key of those who may change the run. 0600, removed at the end."""

    secret: str


def facts_of(directory: Path) -> RunFacts | None:
    """Return the facts of a run; None where they cannot be read."""
    try:
        return msgspec.json.decode(read_regular(directory / layout.RUN), type=RunFacts)
    except (OSError, *UNREADABLE):
        return None


def make_run_id(workflow: str) -> str:
    """Return `[<prefix>-]<workflow>-<date>-<time>-<6 hex digits>`, local time."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    prefix = run_id_prefix()
    return f"{prefix}{'-' if prefix else ''}{workflow}-{stamp}-{os.urandom(3).hex()}"


def run_id_prefix() -> str:
    """Return what ids of runs begin with here: what the caller says, or the Slurm job's number; empty for neither."""
    names = ("SFLOW_RUN_ID_PREFIX", "SLURM_JOB_ID", "SLURM_JOBID")
    return next((value for name in names if (value := os.environ.get(name))), "")


class RunDirectory:
    """Makes and fills one run's directory."""

    def __init__(self, output_dir: Path, run_id: str) -> None:
        self.path = output_dir / run_id
        self.run_id = run_id
        self._building = output_dir / f".{run_id}.building"
        self.recorded_revision: int | None = None
        """The revision of the plan that is recorded; None while that is not known."""

    def create(self, plan: Plan, workflow_yaml: str, facts: RunFacts, nonce: str) -> None:
        """Make the directory with all facts known before the first task starts.

        Raises: RunDirectoryError; nothing is left behind then, and a directory that another process is making
        is not touched.
        """
        if self.path.exists() or self.path.is_symlink():
            raise self._is_there()
        try:
            self._building.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._building.mkdir(mode=0o700)
            except (
                FileExistsError
            ):  # of a start that was cut off, or is under way: the rename decides between the two
                self._building = self._building.with_name(f".{self.run_id}.{os.urandom(4).hex()}.building")
                self._building.mkdir(mode=0o700)
        except OSError as error:
            raise self._not_writable(error) from error
        try:
            written: list[Path] = []

            def write(path: Path, content: Content) -> None:
                write_new(path, content)
                written.append(path)

            self._fill(self._building, plan, workflow_yaml, facts, nonce, write)
            write(self._building / layout.CLAIM, encode_claim(_claim_of(facts)))
            sync_together(written, (self._building / layout.OURS, self._building))
            self._building.rename(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            import shutil

            shutil.rmtree(self._building, ignore_errors=True)
            if self.path.exists():
                raise self._is_there() from error
            raise self._not_writable(error) from error

    def reopen(
        self, plan: Plan, workflow_yaml: str, facts: RunFacts, nonce: str, kept_files: Collection[str] = ()
    ) -> None:
        """Prepare the directory of an earlier controller for this one; its plan and summary are kept beside the new ones.

        `kept_files` are paths of inline artifacts that are not written anew. Raises: RunDirectoryError.
        """
        try:
            self._keep_plan(facts.incarnation - 1)
            self._fill(self.path, plan, workflow_yaml, facts, nonce, write_durably, kept_files)
            with contextlib.suppress(FileNotFoundError):
                earlier = layout.earlier_summary(facts.incarnation - 1)
                (self.path / layout.SUMMARY).rename(self.path / earlier)
            self.remove_connection()
        except OSError as error:
            raise unwritable(error, f"cannot resume in the run directory {self.path}", self.path) from error

    def revise(self, plan: Plan, workflow_yaml: str | None, facts: RunFacts, lineage: int, old: Plan) -> None:
        """Replace the plan by that of a revision, after a copy of the first one; make what its tasks need.

        `workflow_yaml` is None for the same workflow. Raises: OSError.
        """
        first = self.path / layout.first_plan(lineage)
        (self.path / layout.PLANS).mkdir(mode=0o700, exist_ok=True)
        if not first.exists():
            write_durably(first, (self.path / layout.PLAN).read_bytes())
        mask = SECRETS.mask.data if SECRETS.mask else None
        content = b"".join(encode_plan(plan, mask))
        write_durably(self.path / layout.revision_plan(plan.revision), content)
        if workflow_yaml is not None:
            write_durably(self.path / layout.WORKFLOW, workflow_yaml.encode())
        write_durably(self.path / layout.RUN, _recorded(facts) + b"\n")
        write_durably(self.path / layout.PLAN, content)
        self.recorded_revision = plan.revision
        known, files = {task.name for task in old.tasks}, dict(old.files)
        for task in [task for task in plan.tasks if task.name not in known][:MADE_AT_ONCE]:
            _make_task_directory(os.fspath(self.path), task.name)
        for path, text in plan.files:
            if files.get(path) != text:
                _write_inline(self.path, path, text)

    def take_over(self, facts: RunFacts) -> None:
        """Record that this controller continues the work of one that was killed. Raises: RunDirectoryError."""
        try:
            write_durably(self.path / layout.RUN, _recorded(facts) + b"\n")
        except OSError as error:
            what = f"cannot continue the run in {self.path}"
            raise unwritable(error, what, self.path) from error

    def _keep_plan(self, incarnation: int) -> None:
        """Keep the plan in force so far. Not again: after a crash in here `plan.json` may be the next one already."""
        kept = self.path / layout.earlier_plan(incarnation)
        if not kept.exists():
            write_durably(kept, encode_plan(read_plan_file(self.path).plan()))

    def _is_there(self) -> RunDirectoryError:
        what = f"the run directory {self.path} exists already"
        hint = "choose another --run-id, or continue that run with --resume"
        return RunDirectoryError.of("run-directory-exists", what, hint=hint)

    def _not_writable(self, error: OSError) -> RunDirectoryError:
        hint = "choose another place with --output-dir"
        in_the_way = next((one for one in (self.path.parent, *self.path.parents) if one.is_file()), None)
        if in_the_way is not None:
            what = f"{in_the_way} is a file, not a directory"
            return RunDirectoryError.of("run-directory-not-writable", what, hint=f"rename it, or {hint}")
        return unwritable(error, f"cannot make the run directory {self.path}", self.path, hint)

    def _fill(
        self,
        root: Path,
        plan: Plan,
        workflow_yaml: str,
        facts: RunFacts,
        nonce: str,
        write: Callable[[Path, Content], None],
        kept_files: Collection[str] = (),
    ) -> None:
        """Write all facts known before the first task starts, ours with `write`.

        Raises: OSError; every file is an old or a new one then.
        """
        (root / layout.OURS).mkdir(mode=0o700, exist_ok=True)
        (root / layout.REQUESTS).mkdir(mode=0o700, exist_ok=True)
        write(root / layout.WORKFLOW, workflow_yaml.encode())
        write(root / layout.PLAN, encode_plan(plan, SECRETS.mask.data if SECRETS.mask else None))
        self.recorded_revision = plan.revision
        write(root / layout.RUN, _recorded(facts) + b"\n")
        write(root / layout.NONCE, nonce.encode())
        for task in plan.tasks[:MADE_AT_ONCE]:
            _make_task_directory(os.fspath(root), task.name)
        for path, content in plan.files:
            if os.path.normpath(root / path) not in kept_files:
                _write_inline(root, path, content)

    def make_the_rest(self, plan: Plan) -> Callable[[], None]:
        """Make the other tasks' directories while the run begins; return a function that waits until they are made.

        A thousand directories take a tenth of a second, and the first task need not wait for those. Agents make a
        directory that is not there yet themselves.
        """
        rest = list(names_of(plan.tasks))[MADE_AT_ONCE:]
        if not rest:
            return lambda: None

        def make() -> None:
            for name in rest:
                with contextlib.suppress(OSError):  # the agent that starts the task reports it
                    _make_task_directory(os.fspath(self.path), name)

        thread = QuietThread(make, "task-directories")
        thread.start()
        return thread.join

    def write_connection(self, facts: ConnectionFacts, operator: OperatorFacts) -> None:
        """Let viewers and operators of the same user find the run and connect. Raises: RunDirectoryError."""
        try:
            write_for_now(self.path / layout.OPERATOR, msgspec.json.encode(operator) + b"\n")
            write_for_now(self.path / layout.CONNECTION, msgspec.json.encode(facts) + b"\n")
        except OSError as error:
            raise self._not_writable(error) from error
        remember_run(self.path)

    def remove_connection(self) -> None:
        """Remove the facts that viewers and operators need to connect."""
        for name in (layout.CONNECTION, layout.OPERATOR):
            with contextlib.suppress(OSError):  # the directory may be gone, its file system read-only
                (self.path / name).unlink(missing_ok=True)

    def write(self, name: str, content: Content) -> None:
        """Replace a file of `layout.py`, piece by piece. Raises: OSError; the old file is still there then."""
        pieces = (content,) if isinstance(content, bytes) else content
        write_durably(self.path / name, map(SECRETS.mask.raw, pieces))

    def note(self, name: str, content: bytes) -> None:
        """Replace a file that only people read. Raises: OSError; the old file is still there then."""
        write_for_now(self.path / name, SECRETS.mask.raw(content))


def _write_inline(root: Path, path: str, content: str) -> None:
    """Write an inline artifact; a relative path is in the run directory. Raises: OSError."""
    target = root / path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(target, content.encode())


def _recorded(record: msgspec.Struct) -> bytes:
    """Return a record as JSON on one line, without the values of secrets."""
    if not SECRETS.mask:
        return msgspec.json.encode(record, enc_hook=str)
    return msgspec.json.encode(SECRETS.mask.data(msgspec.to_builtins(record, enc_hook=str)))


def _make_task_directory(root: str, name: str) -> None:
    # Not pathlib: thousands of tasks, and each is three system calls.
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{root}/{name}", 0o700)  # noqa: PTH102
    os.close(open_log(f"{root}/{log_path(name)}"))


def _claim_of(facts: RunFacts) -> Claim:
    return Claim(
        incarnation=facts.incarnation,
        host=facts.host,
        world=process_world() if facts.host == os.uname().nodename else "",
        pid=facts.pid,
        pid_started=facts.pid_started,
        job_id=os.environ.get("SLURM_JOB_ID", ""),
        supervisor=(above := supervisor_pid()),
        supervisor_started=process_start_ticks(above) if above else 0,
    )


def run_facts(
    run_id: str, workflow: str, options: RunOptions, marker: str, directory: Path, earlier: RunFacts | None
) -> RunFacts:
    """Return the facts of a run that this process begins, or resumes after the controller that wrote `earlier`."""
    return RunFacts(
        run_id=run_id,
        workflow=workflow,
        host=os.uname().nodename,
        pid=os.getpid(),
        pid_started=process_start_ticks(os.getpid()),
        started_wall_ns=time.time_ns(),
        version=VERSION,
        format=RUN_FORMAT,
        argv=options.argv if earlier is None else earlier.argv,
        resumes=() if earlier is None else (*earlier.resumes, options.argv),
        options=remember(options, directory),
        directory=str(directory),
        incarnation=1 if earlier is None else earlier.incarnation + 1,
        marker=marker,
        earlier_markers=() if earlier is None else earlier.markers(),
        derived_from=options.derived_from or (None if earlier is None else earlier.derived_from),
        revisions=() if earlier is None else earlier.revisions,
    )

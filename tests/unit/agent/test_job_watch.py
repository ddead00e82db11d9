"""A watcher submits its job once, whatever becomes of the watcher, and cancels it when its task is stopped."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from protocol.plugins import WorkState
from sflow_agent.job_notes.record import JobRecord
from sflow_agent.jobs.driver import JobError
from sflow_agent.jobs.watching import STOPPED, JobWatch


class CrashError(BaseException):
    """The watcher is killed."""


class World:
    """A place where jobs run, a file, and a clock. Each use of any of them may be the watcher's last."""

    def __init__(self, looks: int = 3, code: int | None = 0) -> None:
        self.jobs: dict[str, str] = {}
        """Keys of jobs, by id."""
        self.submitted: list[str] = []
        self.cancelled: list[str] = []
        self.record: JobRecord | None = None
        self.looks, self.code = looks, code
        self.failing: dict[str, str] = {}
        """Errors, by name of the method."""
        self.after: dict[str, Callable[[], object]] = {}
        """What happens after a method has done its work."""
        self.lines: list[str] = []
        self.time = 0.0
        self.is_stopped = self.is_abandoned = False
        self.steps_left: float = float("inf")
        self.every_s = 10.0

    def _step(self) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise CrashError

    def _fail(self, name: str) -> None:
        if name in self.failing:
            raise JobError(self.failing[name])

    # the driver

    def submit(self, key: str) -> str:
        self._step()
        self._fail("submit")
        id = f"j{len(self.jobs) + 1}"
        self.jobs[id] = key
        self.submitted.append(key)
        self.after.get("submit", lambda: None)()
        self._step()
        return id

    def find(self, key: str) -> str | None:
        self._step()
        self._fail("find")
        return next((id for id, one in self.jobs.items() if one == key), None)

    def use(self, key: str) -> None:
        assert key

    def poll(self, id: str) -> WorkState:
        self._step()
        self._fail("poll")
        if id in self.cancelled:
            return WorkState("ended", None, "cancelled")
        self.looks -= 1
        return WorkState("running") if self.looks > 0 else WorkState("ended", self.code)

    def cancel(self, id: str) -> None:
        self._fail("cancel")
        self.cancelled.append(id)

    def follow(self) -> bytes:
        return b""

    # the file

    def read(self) -> JobRecord | None:
        self._step()
        return self.record

    def write(self, record: JobRecord) -> None:
        self._step()
        self.record = record
        self._step()

    # the process

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self._step()
        self.time += max(seconds, 0.1)
        self.after.get("wait", lambda: None)()

    def say(self, text: str) -> None:
        self.lines.append(text)

    def show(self, output: bytes) -> None:
        assert isinstance(output, bytes)

    def watch(self, digest: str = "d", lost_after_s: float = 600.0) -> int:
        keys = iter(f"k{len(self.submitted)}{letter}" for letter in "abc")
        return JobWatch(self, self, self, digest, lost_after_s, lambda: next(keys)).run()


@pytest.mark.parametrize("code", [0, 3, 143])
def test_the_exit_status_is_that_of_the_job(code: int) -> None:
    world = World(code=code)
    assert world.watch() == code
    assert world.record is not None
    assert (world.record.state, world.record.id, world.record.exit_code) == ("ended", "j1", code)


@pytest.mark.parametrize("code", [None, -1, 256])
def test_an_end_without_a_usable_status_is_a_failure(code: int | None) -> None:
    assert World(code=code).watch() == 1


@pytest.mark.parametrize("first", range(16))
def test_the_job_is_submitted_once_wherever_watchers_are_killed(first: int) -> None:
    """All watchers but the last are killed; one whose job has ended has done its work when it has noted that."""
    world = World(looks=6)
    for steps in (first, 3, 4, 5, 6, 7, float("inf")):
        world.steps_left = steps
        with contextlib.suppress(CrashError):
            assert world.watch() == 0
        if world.record is not None and world.record.state == "ended":
            break
    assert len(world.submitted) == 1
    assert world.record is not None
    assert (world.record.state, world.record.exit_code) == ("ended", 0)


def test_an_ended_job_is_not_adopted_but_the_next_attempt_submits_its_own() -> None:
    world = World(code=1)
    assert world.watch() == 1
    world.looks, world.code = 2, 0
    assert world.watch() == 0
    assert len(set(world.submitted)) == 2


def test_a_job_that_runs_something_else_by_now_is_cancelled_first() -> None:
    world = World(looks=100)
    world.steps_left = 8
    with pytest.raises(CrashError):
        world.watch("old")
    world.steps_left, world.looks = float("inf"), 2
    assert world.watch("new") == 0
    assert world.cancelled == ["j1"]
    assert len(world.submitted) == 2


def test_a_stopped_task_cancels_its_job_and_waits_for_its_end() -> None:
    world = World(looks=100)
    world.after["wait"] = lambda: setattr(world, "is_stopped", True)
    assert world.watch() == STOPPED
    assert world.cancelled == ["j1"]
    assert world.record is not None
    assert world.record.state == "ended"
    assert world.lines[-1] == "job j1 is cancelled"


def test_a_watcher_whose_agent_was_killed_leaves_its_job_to_the_next_one() -> None:
    world = World(looks=100)
    world.is_abandoned = True
    world.after["wait"] = lambda: setattr(world, "is_stopped", True)
    assert world.watch() == STOPPED
    assert not world.cancelled
    world.is_stopped, world.after, world.looks = False, {}, 2
    assert world.watch() == 0
    assert len(world.submitted) == 1


def test_a_task_that_is_stopped_before_submits_nothing() -> None:
    world = World()
    world.is_stopped = True
    assert world.watch() == STOPPED
    assert not world.submitted


def test_a_job_that_cannot_be_cancelled_stays_noted_and_is_adopted() -> None:
    world = World(looks=100)
    world.failing["cancel"] = "scancel has failed: no permission"
    world.after["wait"] = lambda: setattr(world, "is_stopped", True)
    assert world.watch() == STOPPED
    assert world.record is not None
    assert world.record.is_open
    world.is_stopped, world.after, world.looks = False, {}, 2
    assert world.watch() == 0
    assert len(world.submitted) == 1


def test_questions_that_fail_are_asked_again_and_then_are_an_error() -> None:
    world = World(looks=100)
    world.failing["poll"] = "squeue does not answer: slurm_load_jobs error"
    with pytest.raises(JobError, match=r"nothing is known of job j1 for .* squeue does not answer"):
        world.watch(lost_after_s=60.0)
    assert world.lines.count("squeue does not answer: slurm_load_jobs error; it is asked again") == 1
    assert world.record is not None
    assert world.record.is_open, "it may run: the next attempt adopts it"


def test_a_submission_that_fails_though_the_job_is_there_is_one() -> None:
    world = World()

    def lose() -> Any:
        raise JobError("sbatch has refused the job: Socket timed out")

    world.after["submit"] = lose
    assert world.watch() == 0
    assert len(world.submitted) == 1
    assert "the job is there nevertheless" in world.lines[0]


def test_a_refused_submission_is_the_error_and_leaves_nothing_open() -> None:
    world = World()
    world.failing["submit"] = "sbatch has refused the job: invalid partition"
    with pytest.raises(JobError, match="invalid partition"):
        world.watch()
    assert world.record is not None
    assert not world.record.is_open


def test_it_is_not_guessed_whether_work_was_started_that_cannot_be_found() -> None:
    world = World()
    world.steps_left = 4
    with pytest.raises(CrashError):
        world.watch()
    assert world.record is not None
    assert world.record.state == "submitting"
    world.steps_left = float("inf")
    world.failing["find"] = "the work may have been started"
    with pytest.raises(JobError, match="may have been started"):
        world.watch()
    assert len(world.submitted) == 1

"""`sflow_summary.log`: its sections, its limits, and how often it is written."""

import time
from pathlib import Path

import pytest

from protocol.messages.uploads import UploadedFile
from sflow_ctl.core.states import FirstCause, Outcome, Reason, TaskState, Transition
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import UploadSummary, summary
from sflow_ctl.report.summary_log import MAX_HINTS, SummaryLog
from sflow_ctl.report.timeline import MAX_FIRST, MAX_LAST, Timeline
from sflow_ctl.runtime.record import layout, summary_writer
from sflow_ctl.runtime.record.directory import RunFacts
from sflow_ctl.runtime.record.durable import write_for_now
from sflow_ctl.runtime.record.summary_writer import REST_FACTOR, WRITE_EVERY_S, SummaryWriter
from tests.unit.core.plans import a_plan, a_task

S = TaskState
SECOND_NS = 1_000_000_000


def change(
    task: str, old: TaskState, new: TaskState, text: str = "", word: str = "exit", **more: int
) -> Transition:
    return Transition(task=task, attempt=1, old=old, new=new, reason=Reason(word, text), **more)  # type: ignore[arg-type]


class Told:
    """A run that is told change by change, a second apart."""

    def __init__(self, *tasks: str) -> None:
        self.state = RunView(a_plan(*map(a_task, tasks)))
        self.timeline = Timeline(dict.fromkeys(tasks, S.WAITING))
        self.now_ns = 0

    def __call__(self, transition: Transition) -> None:
        self.now_ns += SECOND_NS
        self.state.apply(transition)
        self.timeline.note(transition, self.now_ns)

    def text(self, outcome: Outcome | None = None, **more: object) -> str:
        return SummaryLog(
            workflow="w",
            directory="/out/r",
            path="/out/r/sflow_summary.log",
            command=("sflow-ctl", "run", "my file.yaml"),
            tasks=len(self.state.tasks),
            began_ns=0,
            now_ns=self.now_ns,
            state=self.state,
            timeline=self.timeline,
            journal=".sflow/events.jsonl",
            outcome=outcome,
            **more,  # type: ignore[arg-type]
        ).text()


def sections(text: str) -> dict[str, list[str]]:
    """Return the lines of each section by its title."""
    parts = [part.splitlines() for part in text.split("\n\n")]
    return {part[0]: part[2:] for part in parts}


def test_a_running_run_has_a_head_and_a_timeline() -> None:
    told = Told("a", "b")
    told(change("a", S.WAITING, S.QUEUED))
    told(change("a", S.QUEUED, S.STARTING))
    told(change("a", S.STARTING, S.RUNNING))
    told(change("a", S.RUNNING, S.READY, "port 80 is listening"))
    found = sections(told.text())
    assert list(found) == ["Sflow Summary", "Timeline"]
    head = dict(line.split(" : ", 1) for line in found["Sflow Summary"])
    head = {name.strip(): value for name, value in head.items()}
    assert (head["Status"], head["Ended"], head["Duration"], head["Tasks"]) == ("RUNNING", "-", "4.000s", "2")
    assert (head["Counts"], head["Command"]) == ("READY=1, WAITING=1", "sflow-ctl run 'my file.yaml'")
    assert [line.split()[1:4] for line in found["Timeline"][2:]] == [
        ["+1.000s", "a", "UNBLOCKED"],
        ["+2.000s", "a", "SUBMITTED"],
        ["+4.000s", "a", "READY"],
    ]
    assert found["Timeline"][-1].endswith("port 80 is listening")


def test_hints_come_before_the_timeline_and_begin_with_the_cause() -> None:
    told = Told("a", "b", "c")
    told(change("a", S.RUNNING, S.TIMEOUT, "was not ready", "not_ready"))
    told(change("c", S.WAITING, S.SKIPPED, "needs b", "upstream"))
    end = Transition(
        task="b", attempt=2, old=S.RUNNING, new=S.FAILED, exit_code=3,
        reason=Reason("oom", "killed", hint="ask for more memory", line="Killed"),
    )  # fmt: skip
    told(end)
    cause = FirstCause(text="task b failed: killed", task="b")
    text = told.text(Outcome.FAILED, cause=cause)
    found = sections(text)
    assert list(found) == ["Sflow Summary", "Failure Hints", "Timeline"]
    assert found["Failure Hints"] == [
        "b  exit=3  attempts=2  reason=oom: killed  log=/out/r/b/b.log",
        "    line: Killed",
        "    hint: ask for more memory",
        "a  attempts=1  reason=not_ready: was not ready  log=/out/r/a/a.log",
        "c  attempts=1  reason=upstream: needs b  log=/out/r/c/c.log",
    ]
    assert "Workflow Detail : task b failed: killed" in text
    assert "Counts   : CANCELLED=1, FAILED=2" in text
    assert "FAILED/CANCELLED Tasks : a, b, c" in text


def test_a_retry_is_an_event_and_no_failure() -> None:
    told = Told("a")
    told(change("a", S.RUNNING, S.WAITING, "exit status 1; attempt 2 of 2 in 1 s", "retry"))
    assert " RETRY " in told.text()
    assert not told.timeline.failed


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.COMPLETED, "COMPLETED"), (Outcome.INTERRUPTED, "CANCELLED"), (Outcome.TERMINATED, "CANCELLED"),
        (Outcome.TIMEOUT, "FAILED"), (Outcome.INFRASTRUCTURE, "FAILED"),
    ],
)  # fmt: skip
def test_outcomes_have_the_words_of_sflow(outcome: Outcome, status: str) -> None:
    assert f"Status   : {status}\n" in Told("a").text(outcome)


def test_uploads_are_listed() -> None:
    done = UploadSummary(
        count=1,
        bytes=2,
        files=(UploadedFile(path="a.txt", address="s3://b/a.txt", bytes=2),),
        problems=("c.txt: no",),
    )
    found = sections(Told("a").text(Outcome.COMPLETED, uploads={"a": done}))
    assert found["Uploads"] == [
        "Counts : ok=1, failed=1",
        "[OK] a: a.txt -> s3://b/a.txt",
        "[FAILED] a: c.txt: no",
    ]


def test_the_text_is_limited_and_says_so() -> None:
    names = [f"t{index}" for index in range(5000)]
    told = Told(*names)
    for name in names:
        told(change(name, S.RUNNING, S.FAILED, "x" * 50))
    found = sections(told.text())
    assert len(found["Timeline"]) == 2 + MAX_FIRST + 1 + MAX_LAST
    assert (
        f"... {5000 - MAX_FIRST - MAX_LAST} events are left out here; .sflow/events.jsonl has all"
        in found["Timeline"]
    )
    assert found["Failure Hints"][-1] == f"... {5000 - MAX_HINTS} more"


def test_foreign_text_does_not_reach_a_terminal_as_it_is() -> None:
    told = Told("a")
    told(change("a", S.RUNNING, S.FAILED, "\x1b[31mred\nline"))
    text = told.text()
    assert "\x1b" not in text
    assert "\nline" not in text


# ---------------------------------------------------------------------- the file

FACTS = RunFacts(
    run_id="r", workflow="w", host="h", pid=1, pid_started=1, started_wall_ns=time.time_ns(), version="1", argv=("sflow-ctl",)
)  # fmt: skip


def writer(tmp_path: Path, *tasks: str) -> SummaryWriter:
    return SummaryWriter(tmp_path, FACTS, RunView(a_plan(*map(a_task, tasks))))


def test_the_file_is_private_and_written_at_once_at_a_first_failure(tmp_path: Path) -> None:
    made = writer(tmp_path, "a", "b", "c")
    path = tmp_path / layout.SUMMARY_LOG
    now = time.monotonic()
    made.write_if_due(now)
    assert path.stat().st_mode & 0o777 == 0o600
    assert made.next_wakeup() is None
    made.note(change("a", S.WAITING, S.COMPLETED))
    due = made.next_wakeup()
    assert due is not None
    assert due >= now + WRITE_EVERY_S
    made.write_if_due(now + 0.1)
    assert "COMPLETED=1" not in path.read_text()
    made.note(change("b", S.RUNNING, S.FAILED, "exit status 3"))
    made.write_if_due(now + 0.2)
    assert "COMPLETED=1, FAILED=1, WAITING=1" in path.read_text()
    made.note(change("c", S.RUNNING, S.FAILED, "exit status 3"))
    made.write_if_due(now + 0.3)
    assert "FAILED=2" not in path.read_text(), "one failure at once, the others in time"


def test_a_hundred_thousand_tasks_cost_few_writings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def write(path: Path, content: bytes) -> None:
        sizes.append(len(content))
        write_for_now(path, content)

    monkeypatch.setattr(summary_writer, "write_for_now", write)
    names = [f"t{index}" for index in range(100_000)]
    made = SummaryWriter(tmp_path, FACTS, RunView(a_plan(a_task("a"))))
    began = time.monotonic()
    for name in names:
        for old, new in ((S.QUEUED, S.STARTING), (S.STARTING, S.RUNNING), (S.RUNNING, S.COMPLETED)):
            made.note(change(name, old, new))
        made.write_if_due(time.monotonic())
    took_s = time.monotonic() - began
    assert len(sizes) <= 2 + took_s / WRITE_EVERY_S
    assert max(sizes) < 400_000
    assert REST_FACTOR >= 50, "at most a fiftieth of the time goes into this file"


def test_the_end_has_the_outcome_and_uploads(tmp_path: Path) -> None:
    made = writer(tmp_path, "a")
    state = RunView(a_plan(a_task("a")))
    end = summary(
        state,
        Outcome.COMPLETED,
        None,
        run_id="r",
        exit_status=0,
        started_wall_ns=0,
        ended_wall_ns=time.time_ns(),
    )
    made.finish(end)
    assert "Status   : COMPLETED\n" in (tmp_path / layout.SUMMARY_LOG).read_text()


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / layout.SUMMARY_LOG).mkdir()
    writer(tmp_path, "a").write_if_due(time.monotonic())

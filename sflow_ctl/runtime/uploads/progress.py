"""Shows what happens in a run: in the log, on the console, in the view and the summary. Used by the controller."""

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

import msgspec

from protocol.messages.uploads import UploadOutcome
from sflow_ctl.core.commands import (
    AnswerRequest,
    RecordCheckpoint,
    RecordStall,
    RecordUploads,
    RecordWaiting,
    ReviseRun,
)
from sflow_ctl.core.events import OutputsCollected, SchedulerEvent
from sflow_ctl.core.states import Transition
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.transition_text import transition_text
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.operating.desk import RequestDesk
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.record.summary_writer import SummaryWriter
from sflow_ctl.runtime.run.output_collector import OutputCollector, shown_problems

if TYPE_CHECKING:
    from sflow_ctl.runtime.notices.sender import Notifier


class RunProgress:
    """Changes of state, and what changes none: what running tasks wait for, missing values, uploads, warnings."""

    def __init__(
        self,
        state: RunView,
        journal: Journal,
        log: RunLog,
        output: OutputService,
        summary: SummaryWriter,
        desk: RequestDesk,
    ) -> None:
        """`desk` gives operators their answers."""
        self._state, self._journal, self._log, self._output = state, journal, log, output
        self._summary, self._desk = summary, desk
        self.revise: Callable[[ReviseRun, float], object] = lambda _command, _now: None
        """Puts another plan in force."""
        self.notifier: Notifier | None = None
        """Sends notices of the course of the run."""
        self._untold: list[tuple[Transition, int]] = []
        """Changes that are in the journal, and when, but neither in the log nor on the console."""

    def change(self, transition: Transition, wall_ns: int) -> None:
        """Show a change of state with the next `tell`, or before anything else is shown."""
        self._untold.append((transition, wall_ns))
        self._output.publish(transition)

    def tell(self) -> None:
        """Show the changes: after the orders that follow from them have left, because agents wait for those."""
        untold, self._untold = self._untold, []
        for transition, wall_ns in untold:
            self._state.apply(transition, wall_ns, self._journal.incarnation)
            self._summary.note(transition)
            if self.notifier is not None:
                self.notifier.note(transition)
            self._log.info(transition_text(transition), f"sflow.task.{transition.task}")
        if untold:
            self._output.flush()

    def warn(self, text: str) -> None:
        """Show a warning to the viewers of the run, and keep it in the log."""
        self.tell()
        self._log.warning(text)
        self._output.say(f"warning: {text}")

    def _show_stall(self, command: RecordStall) -> None:
        from sflow_ctl.report.words import duration_text

        text = f"{command.task}#{command.attempt} has made no progress for {duration_text(command.silent_s)}"
        self.warn(text)
        if self.notifier is not None:
            self.notifier.stalled(command.task, text)

    def show(
        self,
        command: RecordWaiting | RecordUploads | RecordCheckpoint | RecordStall | AnswerRequest | ReviseRun,
        now: float,
    ) -> None:
        """Show and record what tasks wait for, what was uploaded, what attempts continue from, or what an operator has led to."""
        self.tell()
        match command:
            case RecordWaiting():
                self._show_waiting(command, now)
            case RecordUploads(task=task, outcome=outcome):
                self._journal.uploads(command, now)
                self._state.note_uploaded(task, command.attempt, outcome)
                for line in lines_about(task, outcome, self._log):
                    self._output.say(line)
            case RecordCheckpoint(task=task, attempt=attempt, choice=choice):
                from sflow_ctl.report.checkpoint_text import choice_text  # few tasks have any

                self._journal.checkpoint(command, now)
                self._state.note_checkpoint(command)
                text = SECRETS.mask.text(choice_text(task, attempt, choice))
                self._log.info(text, f"sflow.task.{task}")
                if choice.path:
                    self._output.say(text)
            case RecordStall():
                self._show_stall(command)
            case AnswerRequest():
                self._desk.answer(command)
                if not command.is_repeated:
                    self._show_request(command, now)
            case ReviseRun():
                self.revise(command, now)
            case _:
                assert_never(command)

    def collected(self, outputs: OutputCollector) -> list[SchedulerEvent]:
        """Take the values that have been read since the last call; show what is missing."""
        events: list[SchedulerEvent] = []
        for task, attempt, values, problems in outputs.collected():
            for problem in problems:
                self._log.warning(f"outputs of {task}: {problem}")
            for shown in shown_problems(problems):
                self._output.say(f"warning: outputs of {task}: {shown}")
            events.append(OutputsCollected(task=task, attempt=attempt, values=values, problems=(*problems,)))
        return [*events, *outputs.rendered()]

    def _show_request(self, command: AnswerRequest, now: float) -> None:
        from sflow_ctl.report.request_text import request_text  # few runs have operators

        self._journal.request(command, now)
        self._state.note_request(command)
        text = SECRETS.mask.text(request_text(command))
        self._log.info(text)
        self._output.say(text)

    def _show_waiting(self, command: RecordWaiting, now: float) -> None:
        command = msgspec.structs.replace(command, text=SECRETS.mask.text(command.text))
        task, text = command.task, command.text
        self._journal.waiting(command, now)
        self._state.note_waiting(task, command.attempt, text, command.what)
        if command.what == "readiness":
            self._output.waiting(task, text)
        verb = "is not ready" if command.what == "readiness" else "uploads"
        self._log.info(f"{task}#{command.attempt} {verb}: {text}", f"sflow.task.{task}")


def lines_about(subject: str, outcome: UploadOutcome, log: RunLog) -> list[str]:
    """Log an outcome, every file by name; return its lines for the console. `subject` is the task, or `upload_all`."""
    for file in outcome.files:
        log.info(SECRETS.mask.text(f"{subject}: {file.path} uploaded to {file.address}"))
    from sflow_ctl.report.upload_text import outcome_text, problem_texts  # few runs upload anything

    problems = [SECRETS.mask.text(problem) for problem in problem_texts(outcome)]
    for problem in problems:
        log.warning(f"uploads of {subject}: {problem}")
    text = SECRETS.mask.text(outcome_text(outcome))
    lines = [f"{subject}: {text}"] if text else []
    return [*lines, *(f"warning: uploads of {subject}: {problem}" for problem in shown_problems(problems))]

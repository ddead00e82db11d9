"""Shows what running tasks wait for, and what became of uploads: in the log, on the console, in the state of the run."""

from protocol.messages.uploads import UploadOutcome
from sflow_ctl.core.commands import RecordWaiting
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.upload_text import outcome_text, problem_texts
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.run.output_collector import shown_problems


def show_waiting(command: RecordWaiting, state: RunView, log: RunLog, output: OutputService) -> None:
    """Show the unmet readiness conditions of a service, or how far the uploads of a task are."""
    task = command.task
    state.note_waiting(task, command.attempt, command.text, command.what)
    if command.what == "readiness":
        output.waiting(task, command.text)
    verb = "is not ready" if command.what == "readiness" else "uploads"
    log.info(f"{task}#{command.attempt} {verb}: {command.text}", f"sflow.task.{task}")


def uploads_ended(subject: str, outcome: UploadOutcome, log: RunLog, output: OutputService) -> None:
    """Show an outcome; `subject` is the task, or the archive of the run. The log names every file."""
    for file in outcome.files:
        log.info(SECRETS.mask.text(f"{subject}: {file.path} uploaded to {file.address}"))
    text = outcome_text(outcome)
    if text:
        output.say(SECRETS.mask.text(f"{subject}: {text}"))
    problems = [SECRETS.mask.text(problem) for problem in problem_texts(outcome)]
    for problem in problems:
        log.warning(f"uploads of {subject}: {problem}")
    for problem in shown_problems(problems):
        output.say(f"warning: uploads of {subject}: {problem}")

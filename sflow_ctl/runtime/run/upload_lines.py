"""Tells people what became of uploads: in the log every file, on the console one line for each task, and warnings."""

from protocol.messages.uploads import UploadOutcome
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.upload_text import outcome_text
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.run.output_collector import shown_problems


def uploads_ended(subject: str, outcome: UploadOutcome, log: RunLog, output: OutputService) -> None:
    """Log and show an outcome; `subject` is the task, or the archive of the run."""
    for file in outcome.files:
        log.info(SECRETS.mask.text(f"{subject}: {file.path} uploaded to {file.address}"))
    text = outcome_text(outcome)
    if text:
        output.say(SECRETS.mask.text(f"{subject}: {text}"))
    problems = problem_texts(outcome)
    for problem in problems:
        log.warning(f"uploads of {subject}: {problem}")
    for problem in shown_problems(problems):
        output.say(f"warning: uploads of {subject}: {problem}")


def problem_texts(outcome: UploadOutcome) -> list[str]:
    """Return what was not uploaded, as sentences without secrets."""
    texts = [SECRETS.mask.text(problem.text) for problem in outcome.problems]
    if outcome.further_problems:
        texts.append(f"and {outcome.further_problems} more")
    return texts

"""Why a job has ended: of the watcher's note and the log of the attempt."""

from pathlib import Path

import pytest

from protocol.diagnosis.reasons import MEANINGS
from protocol.messages.jobs import JOB_REASONS, JobSpec
from protocol.text.process_labels import Labels
from sflow_agent.core.log_reading import LogExcerpt
from sflow_agent.job_notes.cause import job_cause
from sflow_agent.job_notes.record import JobRecord, RecordFile
from sflow_agent.jobs import plugin
from sflow_agent.jobs.driver import JobError
from sflow_agent.jobs.slurm import _REASONS

END = "sflow: job 7 has ended: Slurm says TIMEOUT\n"
NONE: Labels = "none"


def note(tmp_path: Path, reason: str, text: str = "Slurm says TIMEOUT") -> None:
    record = JobRecord(key="k", digest="d", state="ended", id="7", reason=reason, text=text)
    RecordFile(str(tmp_path)).write(record)


def log(text: str, offset: int = 0) -> list[LogExcerpt]:
    return [LogExcerpt(offset, text.encode(), NONE)]


def test_the_note_of_this_attempt_is_the_cause(tmp_path: Path) -> None:
    note(tmp_path, "job_timeout")
    cause = job_cause(str(tmp_path), log(f"step 1\nstep 2\n{END}", 100))
    assert cause is not None
    assert cause.word == "job_timeout"
    assert cause.text == "job 7 has reached its time limit: Slurm says TIMEOUT"
    assert "`time`" in cause.hint
    assert (cause.line, cause.offset) == (END.strip(), 114)


def test_an_earlier_attempts_note_says_nothing(tmp_path: Path) -> None:
    note(tmp_path, "job_timeout")
    assert job_cause(str(tmp_path), log("sflow: sbatch has refused the job\n")) is None
    assert job_cause(str(tmp_path), []) is None


def test_a_note_without_a_reason_that_is_known_says_nothing(tmp_path: Path) -> None:
    assert job_cause(str(tmp_path), log(END)) is None
    for reason in ("", "moon"):
        note(tmp_path, reason)
        assert job_cause(str(tmp_path), log(END)) is None
    (tmp_path / ".sflow_job.json").write_text("{")
    assert job_cause(str(tmp_path), log(END)) is None


@pytest.mark.parametrize("reason", sorted(JOB_REASONS))
def test_every_reason_has_a_sentence_and_may_be_retried(tmp_path: Path, reason: str) -> None:
    note(tmp_path, reason)
    cause = job_cause(str(tmp_path), log(END))
    assert cause is not None
    assert "job 7" in cause.text
    assert next(one for one in MEANINGS if one.word == reason).may_retry


def test_reasons_of_slurm_are_known_ones() -> None:
    assert set(_REASONS.values()) == JOB_REASONS


def test_a_plugin_may_say_only_reasons_that_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["oom", "tired", ""]

    class Backend:
        def poll(self, id: str, options: object) -> tuple[str, None, str, str]:
            return "ended", None, f"{id} is over", said.pop(0)

    class Found:
        label, plugin = "spool", Backend()

    monkeypatch.setattr(plugin, "find_plugin", lambda _group, _name: Found)
    jobs = plugin.PluginJobs(JobSpec(kind="plugin", plugin="spool"), ["x"], str(tmp_path), {}, str(tmp_path))
    assert jobs.poll("7").reason == "oom"
    with pytest.raises(
        JobError, match="reason of a job's end cannot be 'tired'; it is one of job_cancelled, "
    ):
        jobs.poll("7")
    assert jobs.poll("7").reason == ""

"""`cancel` of a run whose controller does not answer: its Slurm job is cancelled, by a stand-in for `scancel`."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from protocol.errors import ControllerAwayError, LaunchError
from sflow_ctl.cli.app import group
from sflow_ctl.cli.steering import cancel
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import encode_claim, own_claim
from sflow_ctl.runtime.slurm.job_state import JobState


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of job 77 whose controller is silent, on a host with a `scancel` that notes its words; return where."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scancel = programs / "scancel"
    scancel.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n[ ! -e {tmp_path}/refuses ] || {{ echo no >&2; exit 1; }}\n'
    )
    scancel.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    claim = tmp_path / layout.CLAIM
    claim.parent.mkdir(parents=True, exist_ok=True)
    claim.write_bytes(encode_claim(own_claim(1)))

    def no_answer(*_: object, **__: object) -> None:
        raise ControllerAwayError.of("no-answer", "r does not answer")

    monkeypatch.setattr(cancel, "user_jobs", lambda: ([], ""))
    monkeypatch.setattr(cancel, "target_run", lambda *_: SimpleNamespace(directory=tmp_path))
    monkeypatch.setattr(cancel, "request", no_answer)
    return tmp_path


def test_the_job_of_a_silent_run_is_cancelled(
    silent: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cancel, "job_state", lambda _job: JobState.EXISTS)
    assert group.main(["cancel", "r"], standalone_mode=False) == 0
    assert (silent / "calls").read_text() == "77\n"
    assert "r does not answer; its Slurm job 77 is cancelled" in capsys.readouterr().err


def test_scancels_refusal_is_the_error(silent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel, "job_state", lambda _job: JobState.EXISTS)
    (silent / "refuses").touch()
    with pytest.raises(LaunchError, match="scancel has not cancelled job 77: no"):
        group.main(["cancel", "r"], standalone_mode=False)


def test_a_job_that_is_gone_is_not_cancelled(silent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel, "job_state", lambda _job: JobState.GONE)
    with pytest.raises(ControllerAwayError):
        group.main(["cancel", "r"], standalone_mode=False)
    assert not (silent / "calls").exists()

"""Claims where clocks differ and where file systems lack hard links: R11."""

import errno
import os
import threading
from pathlib import Path

import msgspec
import pytest

from protocol.errors import UsageError
from sflow_ctl.runtime.record import claim as claims
from sflow_ctl.runtime.record.claim import (
    HolderState,
    claim_run,
    encode_claim,
    holder_of,
    last_written_ns,
    own_claim,
)
from sflow_ctl.runtime.record.durable import create_durably, write_durably
from tests.faults.test_resume import elsewhere, failed_run, resume

WITHOUT_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@pytest.fixture(params=WITHOUT_LINKS, ids=errno.errorcode.get)
def _without_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _target: Path) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(Path, "hardlink_to", refuse)


@pytest.mark.usefixtures("_without_links")
def test_r11_a_claim_is_exclusive_where_there_are_no_hard_links(tmp_path: Path) -> None:
    create_durably(tmp_path / "claim", b"first")
    with pytest.raises(FileExistsError):
        create_durably(tmp_path / "claim", b"second")
    assert (tmp_path / "claim").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["claim"]


def test_r11_a_claim_that_was_never_completely_written_blocks_the_run_for_a_minute(tmp_path: Path) -> None:
    """On a file system without hard links a claim is made before it is written."""
    (tmp_path / ".sflow").mkdir()
    claim = tmp_path / ".sflow/controller.lock.2"
    claim.touch()
    with pytest.raises(UsageError, match="resuming"):
        claim_run(tmp_path, 1)
    then = claim.stat().st_mtime - 100
    os.utime(claim, (then, then))
    held = claim_run(tmp_path, 1)
    assert held.claim.incarnation == 3
    held.release()


def test_a_controller_that_was_killed_while_it_took_over_does_not_block_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim names the supervisor, which lives: for everybody but the controller that this one has started."""
    (tmp_path / ".sflow").mkdir()
    monkeypatch.setattr(claims, "supervisor_pid", os.getppid)
    dead = msgspec.structs.replace(own_claim(2), pid_started=1)
    write_durably(tmp_path / ".sflow/controller.lock.2", encode_claim(dead))
    held = claim_run(tmp_path, 1)
    assert held.claim.incarnation == 3
    held.release()
    monkeypatch.setattr(claims, "supervisor_pid", lambda: 0)
    with pytest.raises(UsageError, match="resuming"):
        claim_run(tmp_path, 1)


def test_r11_a_run_whose_host_has_another_clock_is_not_taken_over(tmp_path: Path) -> None:
    """Its heartbeats seem old, and come."""
    directory = failed_run(tmp_path)
    (directory / ".sflow/summary.json").unlink()
    path, claim = elsewhere(directory / ".sflow", age_s=300)
    write_durably(path, encode_claim(claim))
    then = path.stat().st_mtime - 300
    os.utime(path, (then, then))
    timer = threading.Timer(5.0, os.utime, (path, (then + 5, then + 5)))
    timer.start()
    refused = resume(tmp_path, directory)
    timer.join()
    assert refused.returncode == 2, refused.stderr
    assert "error[still-running]" in refused.stderr, refused.stderr
    assert "whose clock is not this host's" in refused.stderr, refused.stderr


def test_r11_heartbeats_from_the_future_prove_nothing(tmp_path: Path) -> None:
    assert holder_of(*elsewhere(tmp_path, age_s=-3600)).state is HolderState.UNKNOWN
    assert holder_of(*elsewhere(tmp_path, age_s=-10)).state is HolderState.ALIVE


def test_the_last_sign_of_a_controller_is_the_newest_of_what_it_writes(tmp_path: Path) -> None:
    """Its tasks may have changed nothing for hours; it has renewed its claim, and measured them."""
    assert last_written_ns(tmp_path) == 0
    times = {
        "sflow.log": 3,
        ".sflow/events.jsonl": 5,
        ".sflow/controller.lock": 8,
        ".sflow/telemetry/0.n.tail": 9,
    }
    (tmp_path / ".sflow/telemetry").mkdir(parents=True)
    for name, second in times.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (second, second))
        assert last_written_ns(tmp_path) == second * 1_000_000_000

"""Reading a node's files for `success`: what would block or never end does not."""

import os
from pathlib import Path

import pytest

from protocol.diagnosis import local_files as module
from protocol.diagnosis.local_files import local_files
from protocol.diagnosis.success import PrintedLog, missing
from protocol.messages.rank_spec import RequiredJson, Success


def test_a_pipe_without_a_writer_is_read_as_empty(tmp_path: Path) -> None:
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    files = local_files()
    assert files.read(pipe, 10) == b""
    assert list(files.blocks(pipe)) == []
    assert list(files.matching(pipe)) == []
    cause = missing(Success(json=(RequiredJson(path=pipe, where="a > 0"),)), [PrintedLog(pipe)], files)
    assert cause is not None
    assert "is not a JSON document" in cause.text


def test_a_pattern_stops_at_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MATCHES", 2)
    for name in "abc":
        (tmp_path / name).write_text("x")
    assert len(list(local_files().matching(f"{tmp_path}/*"))) == 2
    assert list(local_files().matching(f"{tmp_path}/no")) == []

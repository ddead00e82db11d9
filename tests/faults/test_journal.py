"""The journal over its segments: what a crash, a full disk or damage leaves is read, and what is missing is said."""

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocol.errors import RunDirectoryError
from protocol.ids import AttemptId, RankId
from protocol.messages.facts import Notice, RankExited
from sflow_ctl.core.events import MessageReceived, OutputsCollected
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.journal import writer
from sflow_ctl.runtime.journal.entry import FORMAT, MAX_LINE
from sflow_ctl.runtime.journal.reader import EVERYTHING, TRANSITION, JournalReader, entries_of
from sflow_ctl.runtime.journal.segments import begin_segment, close_segment, closed_path, closed_segments
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.record import layout
from tests.support import sflow_ctl

SMALL = 2000
"""Bytes of a segment: about ten lines."""


class Crash(BaseException):
    """The process ends here."""


class Written:
    """A journal of short segments in a run directory, and the numbers of the tasks whose change it has."""

    def __init__(self, path: Path) -> None:
        self.directory = path
        self.file = path / layout.JOURNAL
        self.file.parent.mkdir()
        self.journal = Journal(self.file, 1)
        self.count = 0

    def write(self, count: int) -> None:
        for _ in range(count):
            self.journal.transition(change(f"t{self.count}"), 1.0)
            self.journal.flush(1.0)
            self.count += 1

    def again(self) -> None:
        """Continue as the next controller does."""
        reader = JournalReader(self.directory)
        list(reader.lines())
        self.journal._file.close()
        self.journal = Journal(self.file, 2, reader.last_seq + 1, reader.segment)

    def tasks(self) -> list[str]:
        return [one.transition.task for one in entries_of(self.directory, (TRANSITION,)) if one.transition]

    def problems(self) -> list[str]:
        reader = JournalReader(self.directory)
        list(reader.entries(EVERYTHING))
        return reader.problems()


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", SMALL)
    (tmp_path / "r").mkdir()
    made = Written(tmp_path / "r")
    yield made
    made.journal.close()


def change(task: str, text: str = "") -> Transition:
    return Transition(
        task=task, attempt=1, old=TaskState.RUNNING, new=TaskState.READY, reason=Reason("exit", text)
    )


def names(count: int) -> list[str]:
    return [f"t{number}" for number in range(count)]


def test_a8_segments_are_one_journal(written: Written) -> None:
    written.write(50)
    closed = closed_segments(written.file)
    assert list(closed) == list(range(1, len(closed) + 1))
    assert len(closed) >= 3
    assert written.file.stat().st_size < 2 * SMALL
    assert written.tasks() == names(50)
    seqs = [one.seq for one in entries_of(written.directory, EVERYTHING)]
    assert seqs == list(range(1, len(seqs) + 1))
    first = gzip.decompress(closed[1].read_bytes()).splitlines()
    assert json.loads(first[0])["begin"]["segment"] == 1
    assert written.problems() == []


def test_a8_a_reader_that_follows_sees_each_line_once(written: Written) -> None:
    reader = JournalReader(written.directory)
    seen: list[str] = []
    for count in (1, 3, 30, 0, 7, 25):
        written.write(count)
        seen += [one.transition.task for one in reader.entries((TRANSITION,)) if one.transition]
        assert seen == names(written.count)
    place = reader.place
    written.write(40)
    later = JournalReader(written.directory, place)
    assert [one.transition.task for one in later.entries((TRANSITION,)) if one.transition] == names(106)[66:]
    assert (reader.problems(), later.problems()) == ([], [])


STEPS = ("open", "write", "fsync", "fdatasync", "rename", "unlink")


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int, make: Callable[[], BaseException]) -> list[str]:
    """Let the system call of this number, of those that change files, raise an exception; return their names."""
    called: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            called.append(name)
            if len(called) == number:
                raise make()
            return real(*arguments, **keywords)

        return call

    for name in STEPS:
        monkeypatch.setattr(os, name, wrapped(name, getattr(os, name)))
    return called


def rotate(written: Written) -> None:
    written.journal._next_segment_from = 0
    written.journal.flush(1.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # nothing is closed by a crash
def test_a8_a_crash_at_any_step_of_a_new_segment_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, ends = 0, 0
    while not ends:
        number += 1
        (tmp_path / f"{number}").mkdir()
        written = Written(tmp_path / f"{number}")
        written.write(8)
        with monkeypatch.context() as patched:
            called = stop_at(patched, number, Crash)
            try:
                rotate(written)
                ends = len(called)
            except Crash:
                pass
        assert written.tasks() == names(8), called
        assert written.problems() == [], called
        written.again()
        written.write(2)
        rotate(written)
        written.write(2)
        written.journal.close()
        assert written.tasks() == names(12), called
        assert written.problems() == [], called
    assert ends >= 8, "there are so many steps to be interrupted at"


def test_r8_a_disk_that_refuses_a_new_segment_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, ends = 1, 0  # the first step is the sync of what is written, whose failure is said
    while not ends:
        number += 1
        (tmp_path / f"{number}").mkdir()
        written = Written(tmp_path / f"{number}")
        written.write(8)
        with monkeypatch.context() as patched:
            called = stop_at(patched, number, lambda: OSError(28, "No space left on device"))
            rotate(written)
            ends = len(called) if len(called) < number else 0
        written.write(2)
        rotate(written)
        written.write(2)
        written.journal.close()
        assert written.tasks() == names(12), called
        assert written.problems() == [], called
        assert not list(written.file.parent.glob(".*")), called


def test_a8_a_line_that_was_cut_off_by_a_kill_is_no_damage(written: Written) -> None:
    written.write(3)
    written.file.write_bytes(written.file.read_bytes()[:-25])
    assert written.tasks() == names(2)
    written.again()
    written.count = 2
    written.write(2)
    assert written.tasks() == names(4)
    assert written.problems() == []


def test_a8_zeros_at_the_end_after_a_crash_of_the_machine_are_no_lines(written: Written) -> None:
    """File systems may have recorded the new size of a file, and not its last blocks."""
    written.write(3)
    with written.file.open("ab") as file:
        file.write(bytes(4096))
    assert written.tasks() == names(3)
    written.again()
    written.write(2)
    assert written.tasks() == names(5)
    assert all("missing" not in problem for problem in written.problems())


def test_a8_damaged_and_missing_lines_are_said(written: Written) -> None:
    written.write(9)
    lines = written.file.read_bytes().splitlines(keepends=True)
    written.file.write_bytes(b"".join([*lines[:3], b"\0" * 100 + b"\n", *lines[4:6], *lines[8:]]))
    assert written.tasks() == ["t0", "t1", "t3", "t4", "t7", "t8"]
    assert written.problems() == [
        "1 line of events.jsonl cannot be read, the first after line 3",
        "2 lines of events.jsonl are missing",
    ]


def test_a8_a_line_of_another_kind_of_change_is_said(written: Written) -> None:
    written.write(3)
    content = written.file.read_bytes().replace(
        b'"new":"ready","reason":{"word":"exit"}', b'"new":"unheard_of"', 1
    )
    written.file.write_bytes(content)
    assert written.tasks() == ["t1", "t2"]
    assert "1 line of events.jsonl cannot be read" in written.problems()[0]


@pytest.mark.parametrize("damage", ["missing", "garbage", "cut", "empty"])
def test_a8_a_damaged_segment_is_named_and_the_others_are_read(written: Written, damage: str) -> None:
    written.write(50)
    path = closed_path(written.file, 2)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"garbage": b"\1" * 500, "cut": content[: len(content) // 2], "empty": b""}[damage])
    of_first = gzip.decompress(closed_path(written.file, 1).read_bytes()).count(b'"transition":')
    read = written.tasks()
    assert read[:of_first] == names(of_first)
    assert read[-10:] == names(50)[-10:]
    assert len(read) < 50
    said = written.problems()
    assert said[0] == "events.000002.jsonl.gz is missing or damaged: what it recorded is unknown"
    assert "missing" in said[-1]


def test_a8_a_journal_without_its_newest_file_is_read_and_continued(written: Written) -> None:
    written.write(50)
    written.file.unlink()
    known = written.tasks()
    assert 30 < len(known) < 50
    assert written.problems() == ["events.jsonl is missing or damaged: what it recorded is unknown"]
    written.again()
    written.write(1)
    assert written.tasks() == [*known, "t50"]
    assert written.problems() == []


def test_a8_a_journal_of_an_older_format_is_read(written: Written) -> None:
    written.write(3)
    lines = written.file.read_bytes().splitlines(keepends=True)
    written.file.write_bytes(b"".join(lines[1:]).replace(b'"seq":', b'"seq":0', 0))
    assert written.tasks() == names(3)


def test_r8_an_exit_is_durable_before_it_may_be_acknowledged(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before it counts: its log and outputs may be late, and its agent forgets it when it is acknowledged."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    written.write(1)
    count = len(synced)
    message = RankExited(rank=RankId(AttemptId("t", 1), 0), exit_code=0, runtime_s=1.0)
    written.journal.event(MessageReceived(node=0, message=message), 1.0)
    assert not written.journal.is_durable
    written.journal.flush(1.1)
    assert not written.journal.is_durable
    written.journal.flush(5.0)
    assert written.journal.is_durable
    assert len(synced) == count + 1


def longest(written: Written) -> int:
    written.journal.flush(1.0)
    return max(map(len, JournalReader(written.directory).lines()))


def test_r23_values_and_texts_of_any_size_make_no_long_line(written: Written) -> None:
    long = "x" * 10_000_000
    values = {"long": long, "list": list(range(500_000)), "deep": {"a": [long]}, "short": 5.5}
    written.journal.event(OutputsCollected(task="t", attempt=1, values=values, problems=(long,) * 3), 1.0)
    many = {f"v{number}": number for number in range(100_000)}
    written.journal.event(
        OutputsCollected(task="t", attempt=1, values=many, problems=("p" * 100,) * 100_000), 1.0
    )
    written.journal.transition(change("t", long), 1.0)
    written.journal.event(MessageReceived(node=0, message=Notice(level="warning", text=long)), 1.0)
    assert longest(written) <= MAX_LINE
    entries = list(entries_of(written.directory, EVERYTHING))
    assert [one.is_cut for one in entries if one.begin is None] == [True, True, True, True]
    first = entries[1].event
    assert isinstance(first, OutputsCollected)
    assert first.values["short"] == 5.5
    assert first.values["long"] == "(cut: 10000002 bytes, in the task's outputs.json)"
    moved = entries[3].transition
    assert moved is not None
    assert moved.reason.text.startswith("xxx")
    assert "(cut: 9992000 characters)" in moved.reason.text


def test_r23_facts_are_never_cut(written: Written) -> None:
    exits = tuple(
        RankExited(rank=RankId(AttemptId("t", 1), number), exit_code=0, runtime_s=1.0)
        for number in range(5000)
    )
    written.journal.event(MessageReceived(node=0, message=exits[0]), 1.0)
    line = msgspec.json.encode(exits)
    assert len(line) > MAX_LINE, "more than a line of texts may have"
    from tests.unit.core.plans import hello

    joined = hello()
    joined = msgspec.structs.replace(joined, hello=msgspec.structs.replace(joined.hello, exited=exits))
    written.journal.event(joined, 1.0)
    written.journal.flush(1.0)
    assert joined in [one.event for one in entries_of(written.directory, EVERYTHING)]


def test_r23_no_part_of_a_secret_is_left_where_a_text_is_cut(written: Written) -> None:
    SECRETS.declare(["S"], {"S": "abcdefgh-12345678"})
    try:
        for shift in range(0, 20, 3):
            written.journal.transition(
                change("t", "y" * (5990 + shift) + "abcdefgh-12345678" + "z" * 100_000), 1.0
            )
        written.journal.flush(1.0)
        whole = b"\n".join(JournalReader(written.directory).lines())
    finally:
        SECRETS.forget()
    assert b"abcd" not in whole
    assert b"5678" not in whole


BIG = """version: "0.1"
workflow:
  name: w
  tasks:
    - name: a
      script:
        - 'echo once >> $SFLOW_WORKSPACE_DIR/a.count'
        - 'x=$(head -c 1000 /dev/zero | tr "\\0" x)'
        - '(echo "{\\"big\\": [0"; yes ", \\"$x\\"" | head -n 9999; echo "]}") > $SFLOW_TASK_OUTPUT_DIR/o.json'
      outputs: [{name: big, source: o.json, json: "big[*]"}]
    - name: b
      depends_on: [a]
      script: ["test -e $SFLOW_WORKSPACE_DIR/go && echo ${{ task.a.outputs.big | length }} > $SFLOW_WORKSPACE_DIR/b"]
"""


def test_r23_a_value_of_ten_megabytes_survives_a_resume(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(BIG)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", "-q", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    run = tmp_path / "sflow_output" / "r"
    assert (run / layout.JOURNAL).stat().st_size < 10 * MAX_LINE
    assert max(map(len, JournalReader(run).lines())) <= MAX_LINE
    (tmp_path / "go").touch()
    done = sflow_ctl("run", "--resume", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "a.count").read_text() == "once\n"
    assert (tmp_path / "b").read_text() == "10000\n"


FAILS = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: ["echo a >> $SFLOW_WORKSPACE_DIR/a.count"]}
    - {name: b, depends_on: [a], script: ["test -e $SFLOW_WORKSPACE_DIR/go"]}
"""


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    (tmp_path / "w.yaml").write_text(FAILS)
    assert sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path).returncode == 1
    (tmp_path / "go").touch()
    return tmp_path / "sflow_output" / "r"


def test_a8_a_run_whose_journal_has_segments_is_resumed(failed: Path, tmp_path: Path) -> None:
    journal = failed / layout.JOURNAL
    seq = 1 + max(one.seq for one in entries_of(failed, EVERYTHING))
    close_segment(journal, 1)
    first = journal.read_bytes().splitlines(keepends=True)[0]
    first = first.replace(b'"seq":1,', b'"seq":%d,' % seq).replace(b'"segment":1', b'"segment":2')
    begin_segment(journal, first).close()
    shown = sflow_ctl("status", "r", cwd=tmp_path)
    assert "warning" not in shown.stdout
    assert "completed" in shown.stdout
    done = sflow_ctl("run", "--resume", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kept: a" in done.stderr
    assert (tmp_path / "a.count").read_text() == "a\n"
    segments = [one.begin.segment for one in entries_of(failed, EVERYTHING) if one.begin is not None]
    assert segments == [1, 2, 2]


def test_a8_damage_of_a_journal_is_said_by_status_and_resume(failed: Path, tmp_path: Path) -> None:
    journal = failed / layout.JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[2:4], *lines[6:]]))
    said = ("1 line of events.jsonl cannot be read", "2 lines of events.jsonl are missing")
    shown = sflow_ctl("status", "r", cwd=tmp_path)
    as_json = json.loads(sflow_ctl("status", "r", "--json", cwd=tmp_path).stdout)
    done = sflow_ctl("run", "--resume", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for text in said:
        assert f"warning: {text}" in shown.stdout
        assert text in " ".join(as_json["problems"])
        assert f"warning: {text}" in done.stdout + done.stderr
        assert text in (failed / layout.RUN_LOG).read_text()


def test_a8_a_journal_of_a_newer_format_is_refused_by_name(failed: Path, tmp_path: Path) -> None:
    journal = failed / layout.JOURNAL
    newer = journal.read_bytes().replace(b'"format":%d,"version":"' % FORMAT, b'"format":99,"version":"9.', 1)
    journal.write_bytes(newer)
    for arguments in (("status", "r"), ("run", "--resume", "r")):
        done = sflow_ctl(*arguments, cwd=tmp_path)
        assert done.returncode in (2, 3), done.stdout + done.stderr
        assert "was written by sflow-ctl 9." in done.stderr
        assert "in format 99; this version reads up to 1" in done.stderr
    with pytest.raises(RunDirectoryError):
        list(entries_of(failed, EVERYTHING))
    assert journal.read_bytes() == newer

"""The thread that reads outputs: never blocked, once per task, values even where nothing can be written."""

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import RankExited
from sflow_ctl.core.events import MessageReceived
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.results import PlannedOutput, PlannedResult, PlannedResultPattern
from sflow_ctl.results import documents
from sflow_ctl.runtime.files import task_results
from sflow_ctl.runtime.record.durable import write_for_now
from sflow_ctl.runtime.run import output_collector
from sflow_ctl.runtime.run.output_collector import OutputCollector, TaskOutputs
from tests.support import wait_until
from tests.unit.core.plans import a_task


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[OutputCollector]:
    made = OutputCollector(tmp_path)
    yield made
    made.close()


def exited(name: str, rank: int = 0) -> MessageReceived:
    message = RankExited(
        rank=RankId(AttemptId(name, 1), rank), exit_code=0, signal=None, runtime_s=1.0, log_bytes=0
    )
    return MessageReceived(node=0, message=message)


def wait_for(collector: OutputCollector, count: int) -> list[TaskOutputs]:
    """Return the first `count` results, within 10 seconds."""
    found: list[TaskOutputs] = []
    deadline = time.monotonic() + 10
    while len(found) < count:
        left = deadline - time.monotonic()
        assert left > 0, f"only {found}"
        select.select([collector.fileno], [], [], left)
        found += collector.collected()
    return found


def with_outputs(name: str, *outputs: PlannedOutput) -> PlannedTask:
    return msgspec.structs.replace(a_task(name), outputs=outputs)


@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "missing"])
def test_r26_a_source_that_is_not_a_file_holds_nothing_up(
    kind: str, tmp_path: Path, collector: OutputCollector
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.log").write_text("rate = 5\n")
    source = tmp_path / "a" / "values"
    if kind == "fifo":
        os.mkfifo(source)
    elif kind == "device":
        source.symlink_to("/dev/zero")
    elif kind == "directory":
        source.mkdir()
    rate = PlannedOutput(pattern="rate = {rate:d}")
    for how in ({"json": "v"}, {"csv": "v"}, {"pattern": "{v}"}):
        other = msgspec.convert({"name": "v", "source": "values", **how}, PlannedOutput)
        collector.collect(with_outputs("a", other, rate), 1)
        (found,) = wait_for(collector, 1)
        assert found.values == {"rate": 5}
        assert len(found.problems) == 1
        assert "values" in found.problems[0]
    collector.collect(with_outputs("b", rate), 1)
    assert wait_for(collector, 1)[0].values == {"rate": 5}


def test_r6_values_are_known_where_nothing_can_be_written(tmp_path: Path, collector: OutputCollector) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.log").write_text("rate = 5\n")
    (tmp_path / "a" / "outputs.json").mkdir()
    collector.collect(with_outputs("a", PlannedOutput(pattern="rate = {rate:d}")), 1)
    (found,) = wait_for(collector, 1)
    assert found.values == {"rate": 5}
    assert len(found.problems) == 1
    assert "outputs.json cannot be written" in found.problems[0]


@pytest.mark.parametrize("size", [99, 100, 101, 200, 1001])
def test_r17_a_line_without_end_is_not_held_in_memory(
    tmp_path: Path, collector: OutputCollector, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(output_collector, "MAX_LINE", 100)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.log").write_text(f"rate = 4\n{'x' * size}\nrate = 5\n{'y' * size}")
    (tmp_path / "a" / "v.json").write_text(f'{{"v": "{"z" * size}", "w": 7}}')
    outputs = (PlannedOutput(pattern="rate = {rate:d}"), PlannedOutput(json="w", name="w", source="v.json"))
    collector.collect(with_outputs("a", *outputs), 1)
    (found,) = wait_for(collector, 1)
    assert found.values == {"rate": [4, 5], "w": 7}


def test_r17_a_document_that_is_too_large_is_said(
    tmp_path: Path, collector: OutputCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "MAX_DOCUMENT", 1 << 20)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.log").write_text("rate = 5\n")
    (tmp_path / "a" / "v.json").write_text(f'{{"v": "{"z" * (1 << 20)}"}}')
    outputs = (PlannedOutput(pattern="rate = {rate:d}"), PlannedOutput(json="v", name="v", source="v.json"))
    collector.collect(with_outputs("a", *outputs), 1)
    (found,) = wait_for(collector, 1)
    assert found.values == {"rate": 5}
    assert found.problems == ["v.json: larger than 1 Mi characters"]


# ---------------------------------------------------------------------- results.json


def measuring(name: str, tmp_path: Path) -> PlannedTask:
    """A task with a result, and its log."""
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.log").write_text(f"rate={name[1:]}\n")
    pattern = PlannedResultPattern(name="rate", regex="rate=(.+)")
    return msgspec.structs.replace(a_task(name), result=PlannedResult(patterns=(pattern,)))


def entries(tmp_path: Path) -> dict[str, Any]:
    """Return the values in `results.json` by task."""
    document = msgspec.json.decode((tmp_path / "results.json").read_bytes())
    assert document["schema_version"] == "sflow.results.v1"
    return {name: one["values"] for name, one in document["tasks"].items()}


def test_results_of_thousands_of_tasks_are_not_all_written_for_each_of_them(
    tmp_path: Path, collector: OutputCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def write(path: Path, content: bytes) -> None:
        written.append(len(content))
        write_for_now(path, content)

    monkeypatch.setattr(task_results, "write_for_now", write)
    monkeypatch.setattr(task_results, "write_durably", write_for_now)
    monkeypatch.setattr(output_collector, "write_durably", write_for_now)
    names = [f"t{index}" for index in range(2000)]
    tasks = [measuring(name, tmp_path) for name in names]
    began = time.monotonic()
    for task in tasks:
        collector.collect(task, 1)
    wait_for(collector, len(tasks))
    took_s = time.monotonic() - began
    assert collector.write_results() == ""
    assert entries(tmp_path) == {name: {"rate": int(name[1:])} for name in names}
    assert len(written) <= 3 + took_s / task_results.WRITE_EVERY_S
    before = len(written)
    assert collector.write_results() == ""
    assert len(written) == before, "nothing was new"


def test_results_appear_without_an_end_of_the_run(tmp_path: Path, collector: OutputCollector) -> None:
    collector.collect(measuring("t1", tmp_path), 1)
    wait_for(collector, 1)
    wait_until((tmp_path / "results.json").is_file, "the results")
    collector.collect(measuring("t2", tmp_path), 1)
    wait_until(lambda: len(entries(tmp_path)) == 2, "both results")


def test_a_resumed_run_has_the_results_of_kept_tasks_only(tmp_path: Path) -> None:
    first = OutputCollector(tmp_path)
    for name in ("t1", "t2", "t3"):
        first.collect(measuring(name, tmp_path), 1)
    wait_for(first, 3)
    first.write_results()
    first.close()
    (tmp_path / "t3" / "result.json").write_text("no JSON")
    (tmp_path / "results.json").unlink()  # a killed controller may not have written it
    second = OutputCollector(tmp_path)
    second.keep_results(["t1", "t3"])
    second.write_results()
    second.close()
    assert entries(tmp_path) == {"t1": {"rate": 1}}


def test_results_that_cannot_be_written_are_a_problem(tmp_path: Path, collector: OutputCollector) -> None:
    (tmp_path / "results.json").mkdir()
    collector.writes_results = False
    collector.collect(measuring("t1", tmp_path), 1)
    assert wait_for(collector, 1)[0].problems == []
    assert collector.write_results().startswith("results.json cannot be written: ")


def test_only_tasks_that_come_after_others_need_the_results(
    tmp_path: Path, collector: OutputCollector
) -> None:
    collector.writes_results = False
    collector.collect(measuring("t1", tmp_path), 1)
    wait_for(collector, 1)
    collector.write_results([a_task("first")])
    assert not (tmp_path / "results.json").exists()
    collector.write_results([a_task("first"), a_task("second", "t1")])
    assert entries(tmp_path) == {"t1": {"rate": 1}}

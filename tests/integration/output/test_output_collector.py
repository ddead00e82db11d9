"""The thread that reads outputs: never blocked, once per task, values even where nothing can be written."""

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import RankExited
from sflow_ctl.core.events import MessageReceived
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.results import PlannedOutput
from sflow_ctl.results import documents
from sflow_ctl.runtime.run import output_collector
from sflow_ctl.runtime.run.output_collector import OutputCollector, TaskOutputs
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

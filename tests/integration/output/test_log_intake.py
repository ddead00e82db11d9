"""Logs over real sockets: every byte once, in any order of sending; a full disk costs only time."""

import errno
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from protocol.messages.packets import LogChunk
from protocol.session.codec import MAX_LOG_BODY_BYTES, encode
from sflow_ctl.cli.terminal.console import Console
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.fleet.keys import KeyPair
from sflow_ctl.runtime.logs import intake
from sflow_ctl.runtime.logs.store import RankLog, SpoolFiles
from tests.integration.output.fleet import Agent, Controller, change, pair_of, rank_of

LOG = "t/t.log"


def deliver(controller: Controller, agent: Agent, data: bytes, task: str = "t", size: int = 4096) -> None:
    """Sends a log as an agent does: a repeated acknowledgement takes it back to that offset."""
    rank = rank_of(task)
    sent = acked = 0

    def turn() -> bool:
        nonlocal sent, acked
        for ack in agent.receive():
            assert ack.rank == rank
            if ack.offset == acked < sent:
                sent = acked
            acked = max(acked, ack.offset)
        while sent < len(data) and sent - acked < 64 * size:
            body = data[sent : sent + size]
            agent.send(rank, sent, body, is_end=sent + len(body) == len(data))
            sent += len(body)
        return acked >= len(data)

    controller.until(turn, "delivery", within_s=20)


def test_a_spooled_log_is_complete_and_identical(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_001)
    with Controller(tmp_path) as controller:
        agent = Agent(controller)
        controller.output.expect(rank_of("t"), len(data), True)
        deliver(controller, agent, data, size=100_000)
        controller.until(lambda: controller.completed == [rank_of("t")], "completion")
        agent.close()
    assert (tmp_path / LOG).read_bytes() == data


def test_any_order_repetition_and_overlap_give_the_same_file(tmp_path: Path) -> None:
    chooser = random.Random(2)
    data = chooser.randbytes(20_000)
    with Controller(tmp_path) as controller:
        agent = Agent(controller)
        for _ in range(300):
            offset = chooser.randrange(len(data))
            agent.send(rank_of("t"), offset, data[offset : offset + chooser.randrange(2_000)])
        agent.send(rank_of("t"), len(data) + 5, b"beyond a hole")
        deliver(controller, agent, data, size=777)
        assert controller.output.counters["gaps"] > 0
        before = controller.output.counters["repeated"]
        agent.send(rank_of("t"), 0, data[:100])
        controller.until(lambda: controller.output.counters["repeated"] > before, "a repetition is noticed")
        agent.close()
    assert (tmp_path / LOG).read_bytes() == data


def test_a_broken_connection_repeats_and_loses_nothing(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(500_000)
    with Controller(tmp_path) as controller:
        first = Agent(controller)
        for offset in range(0, 300_000, 10_000):
            first.send(rank_of("t"), offset, data[offset : offset + 10_000])
        controller.until(lambda: first.acknowledged(rank_of("t")) > 0, "an acknowledgement")
        first.close()
        again = Agent(controller)
        deliver(controller, again, data)
        again.close()
    assert (tmp_path / LOG).read_bytes() == data


def test_a_silent_rank_has_an_empty_log(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller:
        controller.output.expect(rank_of("t"), 0, True)
        controller.until(lambda: controller.completed == [rank_of("t")], "completion")
    assert (tmp_path / LOG).read_bytes() == b""


def test_a_rank_that_has_printed_nothing_gets_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[RankLog] = []

    def make(*arguments: Any, **options: Any) -> RankLog:
        made.append(RankLog(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(intake, "RankLog", make)
    (tmp_path / "t").mkdir()
    (tmp_path / LOG).write_bytes(b"hi\n")
    with (tmp_path / "console").open("wb") as file:
        console = Console(Plan(workflow="w", nodes=(), tasks=()), descriptor=file.fileno(), environ={})
        with Controller(tmp_path, console=console) as controller:
            for number in range(50):
                controller.output.expect(rank_of(f"t{number}"), 0, False)
            controller.output.expect(rank_of("t"), 3, False)
            controller.until(lambda: made, "the record of the one that has")
        assert console.close()
    assert [log.rank for log in made] == [rank_of("t")]
    assert (tmp_path / "console").read_bytes() == b"[t] hi\n"


def test_late_bytes_of_an_earlier_attempt_go_to_its_own_file(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller:
        agent = Agent(controller)
        controller.publish(change("t", TaskState.STARTING, attempt=1))
        agent.send(rank_of("t", 1), 0, b"one ")
        controller.until(lambda: agent.acknowledged(rank_of("t", 1)) == 4, "first part")
        controller.output.rotate(rank_of("t", 1), LOG, "t/t.attempt-1.log")
        controller.publish(change("t", TaskState.STARTING, attempt=2))
        agent.send(rank_of("t", 2), 0, b"two", is_end=True)
        agent.send(rank_of("t", 1), 4, b"late", is_end=True)
        controller.output.expect(rank_of("t", 1), 8, True)
        controller.output.expect(rank_of("t", 2), 3, True)
        controller.until(lambda: len(controller.completed) == 2, "both attempts")
        agent.close()
    assert (tmp_path / LOG).read_bytes() == b"two"
    assert (tmp_path / "t/t.attempt-1.log").read_bytes() == b"one late"


def test_garbage_is_counted_and_ignored(tmp_path: Path) -> None:
    header = encode(LogChunk(rank=rank_of("t"), offset=0, is_spool=True))
    escape = encode(LogChunk(rank=rank_of("../../t"), offset=0, is_spool=True))
    negative = encode(LogChunk(rank=rank_of("t"), offset=-5, is_spool=True))
    bad: list[tuple[bytes, ...]] = [
        (b"",),
        (b"\x00\xff" * 50, b"body"),
        (header,),
        (header, b"a", b"b"),
        (header, b"x" * (MAX_LOG_BODY_BYTES + 1)),
        (escape, b"x"),
        (negative, b"x"),
        (os.urandom(100_000), os.urandom(100_000)),
    ]
    with Controller(tmp_path) as controller:
        agent = Agent(controller)
        controller.places |= {rank_of("t"): 0, rank_of("../../t"): 0}
        for frames in bad:
            agent.socket.send_multipart(frames)
        deliver(controller, agent, b"good\n")
        assert controller.output.counters["malformed"] == len(bad)
        agent.close()
    assert (tmp_path / LOG).read_bytes() == b"good\n"
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_an_oversized_frame_ends_its_connection_and_nothing_else(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller:
        bad, good = Agent(controller), Agent(controller)
        bad.socket.send_multipart((b"header", bytes(17 * 1024 * 1024)))
        deliver(controller, good, b"good\n")
        bad.close()
        good.close()
    assert (tmp_path / LOG).read_bytes() == b"good\n"


@pytest.mark.parametrize("key", ["unknown", "viewer"])
def test_logs_without_an_agents_key_are_refused(tmp_path: Path, key: str) -> None:
    with Controller(tmp_path, agents=2) as controller:
        stranger = Agent(
            controller, keys=KeyPair.make() if key == "unknown" else pair_of(controller.keys.viewer)
        )
        stranger.send(rank_of("t"), 0, b"evil", is_end=True)
        good = Agent(controller, node=1)
        controller.until(lambda: controller.link.refused().get("unauthenticated_connections"), "denial")
        deliver(controller, good, b"good\n", task="u")
        stranger.close()
        good.close()
    assert not (tmp_path / LOG).exists()


class FullDisk:
    """Writes as a full disk does: a part of the bytes, then an error."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.refused = 0
        self._append = SpoolFiles.append

    def append(self, spool: SpoolFiles, log: RankLog, body: memoryview) -> None:
        part = body[: self.free]
        self.free -= len(part)
        self._append(spool, log, part)
        if len(part) < len(body):
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_loses_nothing_and_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "DISK_RETRY_S", 0.1)
    disk = FullDisk(free=100_000)
    monkeypatch.setattr(SpoolFiles, "append", lambda *arguments: disk.append(*arguments))
    data = random.Random(4).randbytes(600_000)
    with Controller(tmp_path) as controller:
        agent = Agent(controller)
        controller.output.expect(rank_of("t"), len(data), True)
        room = threading.Timer(0.5, lambda: setattr(disk, "free", 10**9))
        room.start()
        deliver(controller, agent, data)
        assert disk.refused > 0
        controller.until(lambda: controller.completed == [rank_of("t")], "completion")
        agent.close()
        room.join()
    assert (tmp_path / LOG).read_bytes() == data
    notes = controller.output.notices()
    assert ["nothing is lost" in note for note in notes] == [True, False]
    assert notes[1].endswith("can be written again")


def test_a_log_is_taken_from_the_agent_of_its_rank_only(tmp_path: Path) -> None:
    with Controller(tmp_path, agents=2) as controller:
        owner, other = Agent(controller, 0), Agent(controller, 1)
        controller.places[rank_of("t")] = 0
        for offset, is_end in ((0, False), (3, True), (1 << 40, False)):
            other.send(rank_of("t"), offset, b"no!", is_end=is_end, is_own=False)
        other.send(rank_of("unplaced"), 0, b"no!", is_own=False)
        counters = controller.output.counters
        controller.until(lambda: counters["foreign_log_chunks"] == 4, "all of them refused")
        controller.output.expect(rank_of("t"), 4, True)
        owner.send(rank_of("t"), 0, b"yes\n", is_end=True)
        controller.until(lambda: controller.completed == [rank_of("t")], "the true log")
        assert not other.receive()
        owner.close()
        other.close()
    assert (tmp_path / LOG).read_bytes() == b"yes\n"
    assert not (tmp_path / "unplaced").exists()


def test_a_log_that_never_arrives_does_not_delay_the_end_for_long(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    controller.output.expect(rank_of("t"), 1_000, True)
    controller.close(deadline_s=0.3)
    assert controller.output.counters["logs_incomplete"] == 1


def test_logs_of_a_lost_node_are_not_waited_for(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    controller.places[rank_of("t")] = 0
    controller.output.expect(rank_of("t"), 1_000, True)
    controller.output.node_lost(0)
    began = time.monotonic()
    controller.close(deadline_s=30)
    assert time.monotonic() - began < 5
    assert ["t#1" in note for note in controller.output.notices()] == [True]


def test_a_thousand_logs_leave_no_descriptor_open(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller:
        agent = Agent(controller)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for number in range(1_000):
            agent.send(rank_of(f"t{number}"), 0, b"line\n", is_end=True)
            controller.output.expect(rank_of(f"t{number}"), 5, True)
            agent.receive()
        controller.until(lambda: len(controller.completed) == 1_000, "all logs")
        most = before + 10  # the connections themselves
        controller.until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= most, "descriptors closed")
        agent.close()
    assert all((tmp_path / f"t{number}/t{number}.log").read_bytes() == b"line\n" for number in range(1_000))

"""What a short task leaves an agent to do: no timer, no look at an empty log. Counted work, not time."""

import os
import select
from pathlib import Path

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.packets import LogChunk
from sflow_agent.descriptors import Descriptors
from sflow_agent.logs import follower as module
from sflow_agent.logs.follower import LogFollower
from sflow_agent.logs.output import Outputs
from sflow_agent.logs.output_handover import HeldOutputs, OutputSender, make_pair

RANK = RankId(AttemptId("a", 1), 0)
LATER = RankId(AttemptId("b", 1), 0)


class Ranks:
    """Outputs and a follower, as an agent has them, and processes that end when a test says so."""

    def __init__(self, directory: Path, guardian: OutputSender | None = None) -> None:
        self.directory = directory
        self.descriptors = Descriptors(select.epoll())
        self.outputs = Outputs(self.descriptors, guardian, print)
        self.sent: list[bytes] = []
        self.follower = LogFollower(self._send, self.outputs, print)

    def _send(self, _header: LogChunk, body: bytes) -> bool:
        self.sent.append(body)
        return True

    def path(self, rank: RankId) -> str:
        return str(self.directory / f"{rank.attempt.task}.log")

    def begin(self, rank: RankId, now: float) -> int:
        """Start a rank whose output is streamed; return the descriptor that it prints to."""
        output = self.outputs.open(rank, self.path(rank), now)
        self.follower.stream(rank, self.path(rank), False, now)
        assert output is not None
        return output

    def end(self, rank: RankId, output: int) -> None:
        os.close(output)
        self.outputs.drain(rank)
        self.follower.finish(rank)


def test_a_rank_that_has_ended_leaves_no_timer(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path)
    output = ranks.begin(RANK, 1.0)
    assert ranks.outputs.next_wakeup() == ranks.follower.next_wakeup() == 1.03
    ranks.end(RANK, output)
    ranks.follower.poll(1.01)
    assert ranks.outputs.next_wakeup() is None
    assert ranks.follower.next_wakeup() is None
    later = ranks.begin(LATER, 1.02)
    assert ranks.outputs.next_wakeup() == ranks.follower.next_wakeup() == 1.05
    ranks.end(LATER, later)


def test_an_empty_log_is_not_opened_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = os.open

    def count(path: str, flags: int) -> int:
        opened.append(path)
        return real(path, flags)

    ranks = Ranks(tmp_path)
    for rank, text in ((RANK, b""), (LATER, b"hi\n")):
        output = ranks.begin(rank, 1.0)
        os.write(output, text)
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", count)
            ranks.end(rank, output)
            ranks.follower.poll(1.0)
    assert opened == [ranks.path(LATER)]
    assert ranks.sent == [b"hi\n"]
    assert ranks.follower.next_wakeup() == 1.0 + module.REPEAT_AFTER_S


def test_the_guardian_gets_outputs_when_there_are_some_and_not_in_each_turn(tmp_path: Path) -> None:
    agents_end, guardians_end = make_pair()
    ranks = Ranks(tmp_path, OutputSender(agents_end))
    output = ranks.begin(RANK, 1.0)
    assert ranks.outputs.next_wakeup() == 1.03
    ranks.outputs.poll(1.03)
    assert ranks.outputs.next_wakeup() is None
    ranks.end(RANK, output)
    assert ranks.outputs.next_wakeup() == 0.0  # it is to close them again
    ranks.outputs.poll(1.04)
    assert ranks.outputs.next_wakeup() is None
    HeldOutputs(guardians_end).close()
    agents_end.close()


def test_a_guardian_that_is_behind_gets_the_rest_a_moment_later(tmp_path: Path) -> None:
    agents_end, guardians_end = make_pair()
    ranks = Ranks(tmp_path, OutputSender(agents_end))
    output = ranks.begin(RANK, 1.0)
    while True:  # its buffer is full
        try:
            agents_end.send(b"x" * 8)
        except BlockingIOError:
            break
    ranks.outputs.poll(1.03)
    again = ranks.outputs.next_wakeup()
    assert again is not None
    assert again > 1.03
    guardians_end.setblocking(False)
    while True:
        try:
            guardians_end.recv(64)
        except BlockingIOError:
            break
    ranks.outputs.poll(again)
    assert ranks.outputs.next_wakeup() is None
    _, ancillary, _, _ = guardians_end.recvmsg(64, 64)
    assert ancillary
    ranks.end(RANK, output)
    guardians_end.close()
    agents_end.close()

"""An acknowledgement that is lost costs a repetition, not the run's last half minute."""

import os
import select
from pathlib import Path

import pytest

from protocol.ids import AttemptId, ProbeKey, RankId
from protocol.messages.checks import LogPattern
from protocol.messages.packets import LogChunk
from sflow_agent.descriptors import Descriptors
from sflow_agent.logs.follower import REPEAT_AFTER_S, LogFollower
from sflow_agent.logs.output import Outputs
from sflow_agent.logs.spool import DeliveredPart

RANK = RankId(AttemptId("a", 1), 0)


def test_unacknowledged_bytes_are_sent_again(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"hello\n")
    sent: list[tuple[int, bytes, bool]] = []

    def send(header: LogChunk, body: bytes) -> bool:
        sent.append((header.offset, bytes(body), header.is_end))
        return True

    follower = LogFollower(send, Outputs(Descriptors(select.epoll()), None, print), print)
    follower.stream(RANK, str(log), is_spool=False, now=0.0)
    follower.finish(RANK)
    follower.poll(1.0)
    follower.poll(1.0)
    assert sent == [(0, b"hello\n", True)]
    assert not follower.is_delivered
    due = follower.next_wakeup()
    assert due == 1.0 + REPEAT_AFTER_S
    follower.poll(due)
    assert sent == [(0, b"hello\n", True)] * 2
    follower.acknowledge(RANK, 6)
    follower.poll(due + 1)
    follower.poll(due + 1)
    assert follower.is_delivered
    assert follower.next_wakeup() is None


@pytest.mark.parametrize("is_read_again", [False, True])
def test_r36_a_delivered_part_is_given_back_unless_it_is_read_again(
    tmp_path: Path, is_read_again: bool
) -> None:
    log = tmp_path / "a.log"
    content = os.urandom(12 * 1024 * 1024)
    log.write_bytes(content)
    follower = LogFollower(lambda *_: True, Outputs(Descriptors(select.epoll()), None, print), print)
    follower.stream(RANK, str(log), is_spool=True, now=0.0, relative="a.log", is_read_again=is_read_again)
    follower.search(RANK, ProbeKey("readiness", 0), RANK, str(log), LogPattern(pattern="nowhere"))
    for now in range(20):
        follower.poll(float(now))
        follower.acknowledge(RANK, 12 * 1024 * 1024)
    kept = log.read_bytes()
    assert (kept == content) is is_read_again
    assert kept[: 1024 * 1024] == content[: 1024 * 1024]
    assert kept[-1024 * 1024 :] == content[-1024 * 1024 :]


def test_r36_what_a_probe_has_not_searched_stays(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    content = os.urandom(8 * 1024 * 1024)
    log.write_bytes(content)
    part = DeliveredPart(str(log))
    part.free_to(5 * 1024 * 1024)
    assert log.read_bytes() == content, "not worth it yet"
    part.free_to(7 * 1024 * 1024)
    assert log.read_bytes()[6 * 1024 * 1024 :] == content[6 * 1024 * 1024 :]
    assert log.read_bytes() != content

"""An acknowledgement that is lost costs a repetition, not the run's last half minute."""

import select
from pathlib import Path

from protocol.ids import AttemptId, RankId
from protocol.messages.logs import LogChunk
from sflow_agent.descriptors import Descriptors
from sflow_agent.logs.follower import REPEAT_AFTER_S, LogFollower
from sflow_agent.logs.output import Outputs

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

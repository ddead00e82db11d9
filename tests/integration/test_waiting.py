"""How both loops wait: no packet is missed, and nothing is asked of a socket that was not used."""

import os
import time
from collections.abc import Iterator

import pytest
import zmq

from protocol.streams import waiting as module
from protocol.streams.waiting import Waiting, has_waiting
from tests.support import PATIENCE_S, wait_until

Pair = tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two sockets that are connected."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    one, other = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    port = one.bind_to_random_port("tcp://127.0.0.1")
    other.connect(f"tcp://127.0.0.1:{port}")
    other.send(b"hello")
    assert one.recv() == b"hello"
    yield one, other
    context.destroy(linger=0)


def taken(waiting: Waiting, source: "zmq.Socket[bytes]", within_s: float = PATIENCE_S) -> list[bytes]:
    """All that a socket has after one wait, read as the loops do."""
    assert waiting.wait(int(within_s * 1000))
    found = []
    while waiting.take(source) or has_waiting(source):
        found.append(source.recv(zmq.NOBLOCK))
        if not has_waiting(source):
            break
    return found


def test_what_arrives_between_two_waits_is_found(pair: Pair) -> None:
    mine, theirs = pair
    waiting = Waiting()
    waiting.add(mine)
    for number in range(200):
        theirs.send(b"%d" % number)
        assert taken(waiting, mine) == [b"%d" % number]


def test_what_arrives_while_a_socket_is_written_to_is_found(pair: Pair) -> None:
    """A send takes the sign of a packet away that has come meanwhile: the next wait asks the socket."""
    mine, theirs = pair
    waiting = Waiting()
    waiting.add(mine)
    waiting.wait(0)
    for _ in range(50):
        theirs.send(b"order")
        wait_until(lambda: has_waiting(mine), "a packet")  # the sign is used up
        mine.send(b"fact")
        waiting.note_use(mine)
        assert taken(waiting, mine) == [b"order"]


def test_packets_that_are_left_are_found_by_the_next_wait(pair: Pair) -> None:
    mine, theirs = pair
    waiting = Waiting()
    waiting.add(mine)
    for number in range(3):
        theirs.send(b"%d" % number)
    wait_until(lambda: has_waiting(mine), "a packet")
    for number in range(3):
        assert waiting.wait(int(PATIENCE_S * 1000))
        assert waiting.take(mine)
        assert mine.recv(zmq.NOBLOCK) == b"%d" % number


def test_a_socket_that_was_not_used_is_not_asked(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = pair
    waiting = Waiting()
    waiting.add(mine)
    waiting.wait(0)
    asked: list[object] = []

    def ask(source: "zmq.Socket[bytes]") -> bool:
        asked.append(source)
        return False

    monkeypatch.setattr(module, "has_waiting", ask)
    for _ in range(5):
        assert not waiting.wait(0)
        assert not waiting.take(mine)
    assert asked == []
    waiting.note_use(mine)
    waiting.wait(0)
    waiting.wait(0)
    assert asked == [mine]
    theirs.send(b"order")
    assert waiting.wait(int(PATIENCE_S * 1000))
    assert asked == [mine]


def test_descriptors_are_found_beside_sockets(pair: Pair) -> None:
    mine, theirs = pair
    waiting = Waiting()
    waiting.add(mine)
    read_end, write_end = os.pipe()
    waiting.add(read_end)
    assert not waiting.wait(0)
    os.write(write_end, b"x")
    assert waiting.wait(1000)
    assert waiting.descriptors == [read_end]
    assert read_end in waiting
    assert mine not in waiting
    theirs.send(b"order")
    wait_until(lambda: has_waiting(mine), "a packet")
    waiting.note_use(mine)
    began = time.monotonic()
    assert waiting.wait(60_000)
    assert time.monotonic() < began + PATIENCE_S
    assert mine in waiting
    assert waiting.descriptors == [read_end]
    for descriptor in (read_end, write_end):
        os.close(descriptor)


def test_a_removed_socket_is_not_waited_for(pair: Pair) -> None:
    mine, theirs = pair
    waiting = Waiting()
    waiting.add(mine)
    waiting.wait(0)
    waiting.remove(mine)
    waiting.remove(mine)
    theirs.send(b"order")
    wait_until(lambda: has_waiting(mine), "a packet")
    assert not waiting.wait(0)

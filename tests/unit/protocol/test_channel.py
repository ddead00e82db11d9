"""The channel: over any link, each message is handled once and in order."""

import hypothesis
from hypothesis import strategies as st

from protocol.session.channel import MAX_UNACKNOWLEDGED, RESEND_AFTER_S, Channel, Numbered


def test_in_order_packets_are_new_and_repetitions_are_not() -> None:
    a, b = Channel[str](), Channel[str]()
    first = a.send(("x",), 0.0)
    assert b.receive(first.seq, first.ack, 0.0)
    assert not b.receive(first.seq, first.ack, 0.0)
    assert b.duplicates == 1


def test_a_packet_after_a_gap_waits_for_the_repetition() -> None:
    a, b = Channel[str](), Channel[str]()
    first, second = a.send(("x",), 0.0), a.send(("y",), 0.0)
    assert not b.receive(second.seq, second.ack, 0.0)
    assert b.gaps == 1
    repeated = a.overdue(RESEND_AFTER_S)
    assert [packet.messages for packet in repeated] == [("x",), ("y",)]
    assert [b.receive(packet.seq, packet.ack, 1.0) for packet in repeated] == [True, True]
    assert first.seq == 1


def test_nothing_is_repeated_before_its_time_or_after_its_acknowledgement() -> None:
    a, b = Channel[str](), Channel[str]()
    packet = a.send(("x",), 0.0)
    assert a.overdue(RESEND_AFTER_S / 2) == []
    assert a.next_wakeup() == RESEND_AFTER_S
    b.receive(packet.seq, packet.ack, 0.1)
    assert b.owes_ack
    heartbeat = b.heartbeat()
    assert not b.owes_ack
    assert not a.receive(heartbeat.seq, heartbeat.ack, 0.2)
    assert a.is_idle
    assert a.next_wakeup() is None
    assert a.overdue(99.0) == []


def test_what_is_held_is_acknowledged_by_no_packet_until_it_is_released() -> None:
    a, b = Channel[str](), Channel[str]()
    first = a.send(("x",), 0.0)
    assert b.receive(first.seq, first.ack, 0.0)
    assert b.heartbeat().ack == 1
    b.holds_acks = True
    second = a.send(("y",), 0.0)
    assert b.receive(second.seq, second.ack, 0.0)
    assert [b.heartbeat().ack, b.send(("z",), 0.0).ack, b.repeat(0.0)[0].ack] == [1, 1, 1]
    assert b.owes_ack
    b.holds_acks = False
    assert b.heartbeat().ack == 2
    assert not b.owes_ack


def test_unacknowledged_messages_are_kept_for_the_next_session() -> None:
    channel = Channel[str]()
    channel.send(("x", "y"), 0.0)
    channel.send(("z",), 0.0)
    assert channel.unacknowledged() == ["x", "y", "z"]


def test_a_peer_that_never_acknowledges_breaks_the_session() -> None:
    channel = Channel[int]()
    for number in range(MAX_UNACKNOWLEDGED):
        channel.send((number,), 0.0)
    assert not channel.is_broken
    channel.send((0,), 0.0)
    assert channel.is_broken


@hypothesis.given(
    messages=st.lists(st.integers(), min_size=1, max_size=30),
    fates=st.lists(st.sampled_from(["deliver", "drop", "repeat", "swap"]), min_size=1, max_size=80),
)
def test_all_messages_arrive_once_and_in_order_whatever_the_link_does(
    messages: list[int], fates: list[str]
) -> None:
    sender, receiver = Channel[int](), Channel[str]()
    got: list[int] = []
    fate_of = iter(fates)
    now = 0.0
    wire: list[Numbered[int]] = [sender.send((message,), now) for message in messages]
    while not sender.is_idle:
        held: list[Numbered[int]] = []
        for packet in wire:
            fate = next(fate_of, "deliver")
            copies = {"drop": 0, "repeat": 2}.get(fate, 1)
            if fate == "swap":
                held.append(packet)
                continue
            for arriving in [packet] * copies + held:
                if receiver.receive(arriving.seq, arriving.ack, now):
                    got.extend(arriving.messages)
            held.clear()
        back = receiver.heartbeat()
        if next(fate_of, "deliver") != "drop":
            sender.receive(back.seq, back.ack, now)
        now += RESEND_AFTER_S
        wire = sender.overdue(now)
    assert got == messages

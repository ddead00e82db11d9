"""Messages that are too large for one packet travel in several, each once and in order."""

import os

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import FromAgent, Notice
from protocol.messages.orders import Spawn, Stop, ToAgent
from protocol.messages.packets import ToAgentPacket
from protocol.messages.rank_spec import RankSpec
from protocol.session.channel import Channel, Numbered
from protocol.session.codec import MAX_FRAME_BYTES, MAX_PACKET_BYTES, decode_to_agent, encode
from protocol.session.packing import FACTS_IN_A_PACKET, packed, parts_of


def frame_of(numbered: Numbered[ToAgent]) -> bytes:
    return encode(
        ToAgentPacket(
            session="s", incarnation=1, seq=numbered.seq, ack=numbered.ack, messages=numbered.messages
        )
    )


def spawn(*sizes: int) -> Spawn:
    return Spawn(
        ranks=tuple(
            RankSpec(
                rank=RankId(AttemptId(f"t{n}", 1), 0),
                argv=(os.urandom(size // 2).hex(),),
                env={},
                log=f"t{n}/t{n}.log",
            )
            for n, size in enumerate(sizes)
        )
    )


def sent(*orders: ToAgent) -> tuple[list[bytes], list[ToAgent], Channel[ToAgent]]:
    channel: Channel[ToAgent] = Channel()
    frames = list(packed(channel, orders, 0.0, frame_of))
    packets = [decode_to_agent(frame).packet for frame in frames]
    assert [packet.seq for packet in packets] == list(range(1, len(frames) + 1))
    return frames, [message for packet in packets for message in packet.messages], channel


def test_p1_orders_over_the_limit_of_a_frame_travel_in_several_packets() -> None:
    stop = Stop(attempt=AttemptId("x", 1), grace_s=1.0)
    whole = spawn(*[100_000] * 200)
    assert len(encode(whole)) > MAX_FRAME_BYTES
    frames, messages, channel = sent(stop, whole, stop)
    assert max(map(len, frames)) <= MAX_PACKET_BYTES
    assert (messages[0], messages[-1]) == (stop, stop)
    ranks = [one for message in messages if isinstance(message, Spawn) for one in message.ranks]
    assert tuple(ranks) == whole.ranks
    assert [len(one.messages) > 0 for one in channel.repeat(9.0)] == [True] * len(frames)
    assert channel.receive(0, len(frames), 9.0) is False
    assert channel.is_idle


def test_p1_small_orders_are_one_packet_and_one_piece_is_not_divided() -> None:
    frames, _, _ = sent(spawn(10, 10), spawn(10))
    assert len(frames) == 1
    frames, _, _ = sent(spawn(MAX_PACKET_BYTES + 100_000, 10))
    assert len(frames) == 2


def test_p1_facts_are_divided_by_their_number() -> None:
    facts: list[FromAgent] = [Notice(level="warning", text=str(n)) for n in range(2 * FACTS_IN_A_PACKET + 1)]
    parts = list(parts_of(facts))
    assert [len(part) for part in parts] == [FACTS_IN_A_PACKET, FACTS_IN_A_PACKET, 1]
    assert [one for part in parts for one in part] == facts
    assert list(parts_of([])) == []

"""Offsets and windows of a streamed log."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.session.codec import MAX_LOG_BODY_BYTES
from sflow_agent.core.send_window import WINDOW_BYTES, SendWindow


def test_a_chunk_is_never_larger_than_a_body_nor_the_window_overrun() -> None:
    stream = SendWindow(is_spool=True)
    sent = 0
    while (chunk := stream.next_chunk(10 * WINDOW_BYTES)) is not None:
        assert chunk == (sent, MAX_LOG_BODY_BYTES)
        stream.note_sent(chunk[1])
        sent += chunk[1]
    assert sent == WINDOW_BYTES
    stream.acknowledge(10)
    assert stream.next_chunk(10 * WINDOW_BYTES) == (sent, 10)


def test_the_end_is_a_chunk_of_its_own_when_all_was_sent_before() -> None:
    stream = SendWindow(is_spool=True)
    assert not stream.note_sent(5)
    assert stream.next_chunk(5) is None
    stream.end = 5
    assert stream.next_chunk(5) == (5, 0)
    assert stream.note_sent(0)
    assert not stream.is_delivered
    stream.acknowledge(5)
    assert stream.is_delivered
    assert stream.next_chunk(5) is None


def test_an_empty_log_is_delivered_only_once_its_end_was_sent() -> None:
    stream = SendWindow(is_spool=True, end=0)
    assert not stream.is_delivered
    assert stream.next_chunk(0) == (0, 0)
    stream.note_sent(0)
    assert stream.is_delivered


def test_bytes_beyond_the_end_are_not_sent() -> None:
    assert SendWindow(is_spool=True, end=3).next_chunk(10) == (0, 3)


def test_a_repeated_acknowledgement_requests_the_rest_again() -> None:
    stream = SendWindow(is_spool=True)
    stream.note_sent(100)
    stream.acknowledge(40)
    assert (stream.acked, stream.sent) == (40, 100)
    stream.acknowledge(30)
    assert (stream.acked, stream.sent) == (40, 100)
    stream.acknowledge(40)
    assert (stream.acked, stream.sent) == (40, 40)
    stream.acknowledge(40)
    assert (stream.acked, stream.sent) == (40, 40)


def test_an_acknowledgement_of_unsent_bytes_is_ignored() -> None:
    stream = SendWindow(is_spool=True)
    stream.note_sent(10)
    stream.acknowledge(1000)
    assert stream.acked == 10


def test_a_new_connection_and_a_watcher_move_the_stream() -> None:
    stream = SendWindow(is_spool=False, end=10)
    stream.note_sent(10)
    stream.acknowledge(4)
    stream.rewind()
    assert stream.next_chunk(10) == (4, 6)
    stream.move(8)
    assert stream.next_chunk(10) == (8, 2)


@given(
    st.binary(max_size=3_000),
    st.lists(
        st.tuples(st.sampled_from(["send", "ack", "again", "rewind"]), st.integers(0, 500)), max_size=60
    ),
)
def test_whatever_is_lost_the_receiver_gets_every_byte_once(
    data: bytes, steps: list[tuple[str, int]]
) -> None:
    stream, received = SendWindow(is_spool=True), bytearray()

    def send(limit: int, is_lost: bool) -> None:
        chunk = stream.next_chunk(min(len(data), stream.sent + limit))
        if chunk is None:
            return
        offset, length = chunk
        stream.note_sent(length)
        if not is_lost and offset <= len(received):
            received.extend(data[offset : offset + length][len(received) - offset :])

    for action, number in steps:
        match action:
            case "send":
                send(number, is_lost=number % 3 == 0)
            case "rewind":
                stream.rewind()
            case _:
                stream.acknowledge(len(received))
        assert 0 <= stream.acked <= stream.sent <= len(data)
        assert stream.sent - stream.acked <= WINDOW_BYTES
        assert data.startswith(bytes(received))
    stream.rewind()
    stream.end = len(data)
    for _ in range(len(data) + 2):
        send(1_000_000, is_lost=False)
        stream.acknowledge(len(received))
    assert bytes(received) == data
    assert stream.is_delivered

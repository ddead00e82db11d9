"""Offsets and windows of a streamed log, and patterns in a log that comes in any chunks."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import MAX_LOG_BODY_BYTES
from protocol.messages import LogPattern
from sflow_agent.core.follow import MAX_LINE_BYTES, WINDOW_BYTES, LineMatcher, LogStream


def feed(matcher: LineMatcher, *chunks: bytes) -> list[bool]:
    return [matcher.feed(chunk) for chunk in chunks]


# ---------------------------------------------------------------------- streams


def test_a_chunk_is_never_larger_than_a_body_nor_the_window_overrun() -> None:
    stream = LogStream(is_spool=True)
    sent = 0
    while (chunk := stream.next_chunk(10 * WINDOW_BYTES)) is not None:
        assert chunk == (sent, MAX_LOG_BODY_BYTES)
        stream.note_sent(chunk[1])
        sent += chunk[1]
    assert sent == WINDOW_BYTES
    stream.acknowledge(10)
    assert stream.next_chunk(10 * WINDOW_BYTES) == (sent, 10)


def test_the_end_is_a_chunk_of_its_own_when_all_was_sent_before() -> None:
    stream = LogStream(is_spool=True)
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
    stream = LogStream(is_spool=True, end=0)
    assert not stream.is_delivered
    assert stream.next_chunk(0) == (0, 0)
    stream.note_sent(0)
    assert stream.is_delivered


def test_bytes_beyond_the_end_are_not_sent() -> None:
    assert LogStream(is_spool=True, end=3).next_chunk(10) == (0, 3)


def test_an_acknowledgement_said_twice_asks_for_the_rest_again() -> None:
    stream = LogStream(is_spool=True)
    stream.note_sent(100)
    stream.acknowledge(40)
    assert (stream.acked, stream.sent) == (40, 100)
    stream.acknowledge(30)
    assert (stream.acked, stream.sent) == (40, 100)
    stream.acknowledge(40)
    assert (stream.acked, stream.sent) == (40, 40)
    stream.acknowledge(40)
    assert (stream.acked, stream.sent) == (40, 40)


def test_nobody_can_acknowledge_what_was_not_sent() -> None:
    stream = LogStream(is_spool=True)
    stream.note_sent(10)
    stream.acknowledge(1000)
    assert stream.acked == 10


def test_a_new_connection_and_a_watcher_move_the_stream() -> None:
    stream = LogStream(is_spool=False, end=10)
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
    stream, received = LogStream(is_spool=True), bytearray()

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


# ---------------------------------------------------------------------- patterns


def test_a_literal_is_seen_across_chunks_and_without_a_line_end() -> None:
    matcher = LineMatcher(LogPattern(pattern="ready"))
    assert feed(matcher, b"server re", b"ad", b"y") == [False, False, True]
    assert matcher.line == "server ready"


def test_a_literal_counts_every_occurrence_once() -> None:
    matcher = LineMatcher(LogPattern(pattern="a", count=4))
    assert feed(matcher, b"a", b" a\na", b"", b"a\n") == [False, False, False, True]


def test_an_expression_needs_the_whole_line() -> None:
    matcher = LineMatcher(LogPattern(pattern=r"^up$", is_regex=True))
    assert feed(matcher, b"up", b" and away\n", b"up", b"\r\n") == [False, False, False, True]
    assert matcher.line == "up"


def test_an_expression_may_match_several_times_in_a_line() -> None:
    matcher = LineMatcher(LogPattern(pattern=r"\d+", is_regex=True, count=3))
    assert feed(matcher, b"1 2\nnone\n", b"3\n") == [False, True]


def test_returns_end_lines() -> None:
    matcher = LineMatcher(LogPattern(pattern=r"^100%$", is_regex=True))
    assert feed(matcher, b"10%\r100%\r", b"done") == [False, True]


def test_escape_sequences_are_no_text() -> None:
    matcher = LineMatcher(LogPattern(pattern="ready"))
    assert feed(matcher, b"\x1b[1;32mre\x1b[0", b"mady\x1b]0;title\x07") == [False, True]
    assert feed(LineMatcher(LogPattern(pattern="32")), b"\x1b[1;32", b"mgreen\n") == [False, False]


def test_bad_utf8_is_replaced_and_survived() -> None:
    matcher = LineMatcher(LogPattern(pattern="r.ady", is_regex=True))
    assert feed(matcher, b"r\xffady\n") == [True]
    assert matcher.line == "r\ufffdady"


def test_a_line_without_end_is_matched_in_pieces_and_memory_stays_bounded() -> None:
    matcher = LineMatcher(LogPattern(pattern="needle"))
    for _ in range(12):
        assert not matcher.feed(b"x" * 256 * 1024)
    assert len(matcher._partial) <= MAX_LINE_BYTES
    assert matcher.feed(b"needle")


def test_an_empty_literal_matches_nothing() -> None:
    assert not LineMatcher(LogPattern(pattern="")).feed(b"anything\n")


def test_the_line_shown_is_bounded() -> None:
    matcher = LineMatcher(LogPattern(pattern="ready"))
    assert matcher.feed(b"ready" + b"!" * 5000 + b"\n")
    assert len(matcher.line) == 500


TEXT = st.lists(
    st.sampled_from(
        [b"ready", b"re", b"ady", b"\n", b"\r", b"\r\n", b"\x1b[32m", b"\x1b[0m", b"\xff", b" x"]
    ),
    max_size=30,
).map(b"".join)


@given(TEXT, st.lists(st.integers(0, 200), max_size=8), st.integers(1, 3), st.booleans())
def test_how_bytes_come_in_chunks_makes_no_difference(
    text: bytes, cuts: list[int], count: int, is_regex: bool
) -> None:
    pattern = LogPattern(pattern="^.?ready$" if is_regex else "ready", is_regex=is_regex, count=count)
    whole = LineMatcher(pattern).feed(text)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    chunked = LineMatcher(pattern)
    results = feed(chunked, *(text[a:b] for a, b in pairwise(edges)))
    assert any(results) == whole
    one_by_one = LineMatcher(pattern)
    assert any(feed(one_by_one, *(text[i : i + 1] for i in range(len(text))))) == whole

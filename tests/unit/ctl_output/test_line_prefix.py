"""Prefixed lines: nothing lost, nothing mixed, whatever the chunks."""

import re
from itertools import pairwise

import pytest

from protocol.text.ansi import printable_output
from sflow_ctl.cli.terminal.line_prefix import MAX_HELD_BYTES, LinePrefixer, colour_of

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

LABELS = ("a", "decode_3", "b.1")
piece = st.binary(max_size=40) | st.sampled_from(
    [b"\n", b"\r\n", b"x\ny", b"\xff\xfe\n", b"\x1b[31mred\x1b[0m\n"]
)
chunks = st.lists(st.tuples(st.sampled_from(LABELS), piece), max_size=60)


def show(puts: list[tuple[str, bytes]], *, is_terminal: bool = False) -> bytes:
    prefixer = LinePrefixer(is_terminal=is_terminal, colours=False)
    return b"".join([prefixer.add(label, data) for label, data in puts]) + prefixer.end_all()


def lines_of(label: str, shown: bytes) -> list[bytes]:
    prefix = f"[{label}] ".encode()
    return [line.removeprefix(prefix) for line in shown.split(b"\n") if line.startswith(prefix)]


def lines_put(label: str, puts: list[tuple[str, bytes]]) -> list[bytes]:
    whole = b"".join(data for of, data in puts if of == label)
    return (whole if whole.endswith(b"\n") or not whole else whole + b"\n").split(b"\n")[:-1]


@given(chunks)
def test_f61_each_label_shows_exactly_its_own_lines_in_order(puts: list[tuple[str, bytes]]) -> None:
    shown = show(puts)
    for label in LABELS:
        assert lines_of(label, shown) == lines_put(label, puts)
    assert shown.count(b"\n") == sum(len(lines_put(label, puts)) for label in LABELS)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_how_output_is_cut_into_chunks_does_not_show(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [("t", data[start:end]) for start, end in pairwise(places)]
    assert show(pieces) == show([("t", data)])
    assert show(pieces, is_terminal=True) == show([("t", data)], is_terminal=True)


@given(chunks)
def test_nothing_that_moves_a_cursor_reaches_a_terminal(puts: list[tuple[str, bytes]]) -> None:
    shown = show(puts, is_terminal=True)
    assert not re.search(rb"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]", shown)
    assert not re.search(rb"\x1b(?!\[[0-9;:]*m)", shown)


def test_an_overdrawn_line_shows_its_last_state() -> None:
    assert printable_output(b"10%\r20%\r30%\r\n") == b"30%\n"
    assert printable_output(b"a\r\nb\r\n") == b"a\nb\n"


def test_colours_stay_and_cursor_movements_go() -> None:
    assert (
        printable_output(b"\x1b[1;31mred\x1b[0m\x1b[2J\x1b[10;3Hx\x1b]0;title\x07y\x07\n")
        == b"\x1b[1;31mred\x1b[0mxy\n"
    )


def test_a_long_line_is_one_line_unless_another_task_comes_between() -> None:
    part = b"x" * (MAX_HELD_BYTES + 1)
    assert show([("t", part), ("t", part), ("t", b"end\n")]) == b"[t] " + part * 2 + b"end\n"
    shown = show([("t", part), ("u", b"hello\n"), ("t", b"end\n")])
    assert shown == b"[t] " + part + b"\n[u] hello\n[t] end\n"


def test_a_progress_bar_without_an_end_is_held_small_on_a_terminal() -> None:
    prefixer = LinePrefixer(is_terminal=True, colours=False)
    bar = b"".join(b"\r%d%%" % (number % 100) for number in range(20_000))
    assert prefixer.add("t", bar) == b""
    assert prefixer.end("t") == b"[t] 99%\n"


def test_a_task_has_the_same_colour_in_every_run() -> None:
    assert colour_of("decode_3") == colour_of("decode_3")
    assert len({colour_of(f"task_{number}") for number in range(100)}) > 5


def test_a_long_name_loses_its_middle_on_a_terminal_only() -> None:
    name = f"t_{'value_' * 30}8d36d660"
    terminal, pipe = (LinePrefixer(is_terminal=one, colours=False) for one in (True, False))
    shown = terminal.add(name, b"x\n").decode()
    assert shown == f"[{name[:33]}...{name[-12:]}] x\n"
    assert pipe.add(name, b"x\n").decode() == f"[{name}] x\n"
    assert terminal.add("short", b"x\n") == b"[short] x\n"

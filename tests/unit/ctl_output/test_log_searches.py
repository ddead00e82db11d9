"""Searches in logs for probes of other nodes: findings, and ends of searches."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from protocol.ids import AttemptId, ProbeKey, RankId
from protocol.messages.checks import LogPattern
from protocol.messages.facts import LogSearch
from protocol.messages.orders import LogMatched
from protocol.text import line_pattern
from sflow_ctl.runtime.logs.consumers.search import LOOK_EVERY_S, LogSearches

RANK = RankId(AttemptId("proxy", 1), 0)
ASKED = LogSearch(rank=RANK, key=ProbeKey("readiness", 0), task="engine", pattern=LogPattern(pattern="ready"))
SEEN = [(2, LogMatched(rank=RANK, key=ProbeKey("readiness", 0), line="it is ready now"))]
BUDGET = 1 << 20


def write(directory: Path, data: bytes) -> None:
    (directory / "engine").mkdir(exist_ok=True)
    with (directory / "engine" / "engine.log").open("ab") as file:
        file.write(data)


def test_later_lines_are_found_at_the_next_look(tmp_path: Path) -> None:
    searches = LogSearches(tmp_path, lambda found: None, print)
    assert searches.wake_at(0.0) is None
    searches.take(2, ASKED)
    assert searches.wake_at(5.0) == 5.0
    assert searches.look(5.0, BUDGET) == []  # there is no file yet
    write(tmp_path, b"it is rea")
    assert searches.look(5.0 + LOOK_EVERY_S / 2, BUDGET) == []
    assert searches.look(5.0 + LOOK_EVERY_S, BUDGET) == []
    write(tmp_path, b"dy now\n")
    assert searches.look(6.0, BUDGET) == SEEN
    assert searches.wake_at(6.0) is None  # it is said once


def test_a_repeated_question_is_answered_again(tmp_path: Path) -> None:
    write(tmp_path, b"it is ready now\n")
    searches = LogSearches(tmp_path, lambda found: None, print)
    for now in (1.0, 2.0):
        searches.take(2, ASKED)
        assert searches.look(now, BUDGET) == SEEN


def test_a_flood_is_read_in_pieces(tmp_path: Path) -> None:
    write(tmp_path, b"x" * 999_999 + b"\nit is ready now\n")
    searches = LogSearches(tmp_path, lambda found: None, print)
    searches.take(2, ASKED)
    looks = 0
    while not (seen := searches.look(1.0, 300_000)):
        assert searches.wake_at(1.0) == 1.0  # it goes on at once, after everybody else
        looks += 1
    assert seen == SEEN
    assert looks >= 1


def test_a_log_that_is_begun_anew_is_searched_from_its_beginning(tmp_path: Path) -> None:
    searches = LogSearches(tmp_path, lambda found: None, print)
    searches.take(2, ASKED)
    write(tmp_path, b"the first attempt was rea")
    assert searches.look(1.0, BUDGET) == []
    (tmp_path / "engine" / "engine.log").rename(tmp_path / "engine" / "engine.attempt-1.log")
    write(tmp_path, b"dy\n")
    assert searches.look(2.0, BUDGET) == []  # half of it was the first attempt's
    write(tmp_path, b"it is ready now\n")
    assert searches.look(3.0, BUDGET) == SEEN


def test_an_ended_search_is_not_answered(tmp_path: Path) -> None:
    write(tmp_path, b"it is ready now\n")
    searches = LogSearches(tmp_path, lambda found: None, print)
    searches.take(2, ASKED)
    searches.take(2, LogSearch(rank=RANK, key=ProbeKey("readiness", 0), task="engine"))
    assert searches.look(1.0, BUDGET) == []
    searches.take(2, ASKED)
    searches.node_lost(1)
    assert searches.wake_at(1.0) is not None
    searches.node_lost(2)
    assert searches.look(1.0, BUDGET) == []
    assert searches.wake_at(1.0) is None


def short_only(pattern: str, line: str, _limit: int) -> list[list[str | None]] | None:
    """As the process does it, with a smaller limit."""
    return None if len(line) > 90 else [[one[0]] for one in re.finditer(pattern, line)]


def test_r17_a_pattern_that_takes_for_ever_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_pattern, "_slow_engine", [short_only])
    said: list[str] = []
    searches = LogSearches(tmp_path, lambda found: None, said.append)
    searches.take(2, replace(ASKED, pattern=LogPattern(pattern="^(a+)+$(?!x)|ready", is_regex=True)))
    write(tmp_path, b"a" * 5000 + b"!\n")
    assert searches.look(1.0, BUDGET) == []
    write(tmp_path, b"a" * 100 + b"\n")
    assert searches.look(2.0, BUDGET) == []
    write(tmp_path, b"ready\n")
    assert [found.line for _, found in searches.look(3.0, BUDGET)] == ["ready"]
    assert said == [
        'proxy#1: the pattern "^(a+)+$(?!x)|ready" takes too long on a line: '
        "write it without nested or neighbouring repetitions"
    ]

"""Which tasks a word of the command line means."""

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from sflow_ctl.report.selecting.selectors import Selectable, selected, some_of

TASKS = [
    Selectable("prep", "prep", 0, ""),
    *(Selectable(f"train_{index}", "train", index, f"fit/{index}") for index in range(12)),
    Selectable("learn_3.train", "learn_3.train", 0, ""),
    Selectable("pick", "pick", 0, "best"),
]
TRAIN = [one.name for one in TASKS if one.base == "train"]


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("prep", ["prep"]),
        ("train", TRAIN),
        ("train_11", ["train_11"]),
        ("best", ["pick"]),
        ("fit/7", ["train_7"]),
        ("train[3]", ["train_3"]),
        ("train[-1]", ["train_11"]),
        ("train[12]", []),
        ("train[0:3]", ["train_0", "train_1", "train_2"]),
        ("train[10:]", ["train_10", "train_11"]),
        ("train[::5]", ["train_0", "train_5", "train_10"]),
        ("train[0,2,10:12]", ["train_0", "train_2", "train_10", "train_11"]),
        ("train[::0]", []),
        ("train[1:2:3:4]", []),
        ("train[-]", []),
        ("nobody[0]", []),
        ("0", ["prep"]),
        ("-1", ["pick"]),
        ("0:2,14", ["prep", "train_0", "pick"]),
        ("99", []),
        ("fit/1*", ["train_1", "train_10", "train_11"]),
        ("train_?", TRAIN[:10]),
        ("train_[01]", ["train_0", "train_1"]),
        ("learn[3].train", ["learn_3.train"]),
        ("p*", ["prep", "pick"]),
        ("nobody", []),
        ("", []),
        (":", []),
    ],
)
def test_a_word_means_tasks(word: str, names: list[str]) -> None:
    assert selected(word, TASKS) == names


def test_several_words_mean_each_task_once() -> None:
    assert some_of(["train[1]", "fit/1", "prep"], TASKS) == ["train_1", "prep"]


@given(st.integers(-15, 15), st.integers(-15, 15), st.integers(-4, 4).filter(bool))
def test_ranges_are_those_of_python(start: int, stop: int, step: int) -> None:
    expected = set(TRAIN[start:stop:step])
    assert set(selected(f"train[{start}:{stop}:{step}]", TASKS)) == expected


@given(st.text(alphabet="train[]0123:,-*? ", max_size=14))
def test_any_word_is_answered(word: str) -> None:
    assert set(selected(word, TASKS)) <= {one.name for one in TASKS}

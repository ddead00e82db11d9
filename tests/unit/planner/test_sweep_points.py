"""The laws of expansion, for any sweep: count, order, overlap, and identities that a further value does not change."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from sflow_ctl.format import schema
from sflow_ctl.format.sweep_paths import overlaps, spelled_out
from sflow_ctl.planner.sweeping.labels import MAX_LABEL, distinct, identity, label
from sflow_ctl.planner.sweeping.points import Point, axes_of, cases_of, points, total

pytest.importorskip("hypothesis")

import hypothesis
from hypothesis import strategies as st

VALUES = st.one_of(st.integers(-3, 3), st.floats(-2, 2), st.sampled_from(["a", "b c", "0.1", "", "ü", "x/y"]))
AXIS = st.lists(VALUES, min_size=1, max_size=4, unique_by=repr)


@st.composite
def sweeps(draw: Any) -> schema.Sweep:
    """Sweeps whose axes do not overlap."""
    names = draw(st.permutations(["delta", "b", "alpha", "c", "e"]))
    shared = {name: draw(AXIS) for name in names[: draw(st.integers(0, 3))]}
    left = [name for name in names if name not in shared]
    cases = []
    for index in range(draw(st.integers(0 if shared else 1, 3))):
        split = draw(st.integers(0, len(left)))
        cases.append(
            schema.SweepCase(
                name=f"case{index}",
                set={name: draw(VALUES) for name in left[:split]},
                axes={name: draw(AXIS) for name in left[split : split + 1]},
            )
        )
    return schema.Sweep(axes=shared, cases=cases, order=draw(st.sampled_from(["sorted", "declared"])))


def by_path(point: Point) -> dict[str, Any]:
    return {path.text: value for path, value in point.values}


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(sweep=sweeps())
def test_the_count_is_shared_axes_times_the_sum_over_cases(sweep: schema.Sweep) -> None:
    made = list(points(sweep))
    shared = math.prod(map(len, sweep.axes.values()))
    of_cases = [math.prod(map(len, case.axes.values())) for case in cases_of(sweep)]
    assert len(made) == total(sweep) == shared * sum(of_cases)


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(sweep=sweeps())
def test_the_order_is_that_of_cases_then_of_axes_the_last_one_fastest(sweep: schema.Sweep) -> None:
    def place(point: Point) -> tuple[int, ...]:
        axes = axes_of(sweep, cases_of(sweep)[point.case])
        values = dict(point.values)
        at = (next(i for i, one in enumerate(axes[path]) if one is values[path]) for path in axes)
        return point.case, *at

    made = list(map(place, points(sweep)))
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    for case in cases_of(sweep):
        names = [path.text for path in axes_of(sweep, case)]
        declared = list(dict.fromkeys((*sweep.axes, *case.axes)))
        assert names == (sorted(declared) if sweep.order == "sorted" else declared)


def test_paths_in_any_order_of_the_file_give_the_same_numbering() -> None:
    one = schema.Sweep(axes={"z": [1, 2], "a": [3, 4], "m": [5, 6]})
    other = schema.Sweep(axes={"m": [5, 6], "z": [1, 2], "a": [3, 4]})
    assert list(map(by_path, points(one))) == list(map(by_path, points(other)))
    assert list(map(by_path, points(one)))[:3] == [
        {"a": 3, "m": 5, "z": 1},
        {"a": 3, "m": 5, "z": 2},
        {"a": 3, "m": 6, "z": 1},
    ]


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(sweep=sweeps(), more=st.integers(10, 20), at=st.integers(0, 4))
def test_a_further_value_changes_no_identity_and_no_name(sweep: schema.Sweep, more: int, at: int) -> None:
    hypothesis.assume(sweep.axes)
    name = next(iter(sweep.axes))
    wider = [*sweep.axes[name]]
    wider.insert(min(at, len(wider)), more)
    extended = schema.Sweep(axes={**sweep.axes, name: wider}, cases=sweep.cases, order=sweep.order)
    before, after = names_of(sweep), names_of(extended)
    assert before.items() <= after.items()
    assert len(after) - len(before) == total(extended) - total(sweep) or len(after) < total(extended)


def names_of(sweep: schema.Sweep) -> dict[str, str]:
    result = {}
    for point in points(sweep):
        case = cases_of(sweep)[point.case]
        cell_id = identity(by_path(point))
        result[cell_id] = label(case.name, point.values[len(case.set) :], cell_id)
    return result


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(sweep=sweeps())
def test_names_are_parts_of_paths_and_differ_where_values_do(sweep: schema.Sweep) -> None:
    made = list(points(sweep))
    ids = [identity(by_path(point)) for point in made]
    plain = [
        label(cases_of(sweep)[p.case].name, p.values[len(cases_of(sweep)[p.case].set) :], one)
        for p, one in zip(made, ids, strict=True)
    ]
    labels = distinct(plain, ids)
    assert len(set(labels)) == len(set(ids)) or len(set(ids)) < len(ids)
    for one in labels:
        assert "/" not in one
        assert one.isascii()
        assert one.isprintable()
        assert " " not in one


def test_an_identity_is_of_values_and_not_of_how_they_are_written() -> None:
    assert identity({"a": 0.0001, "b": 1}) == identity({"b": 1, "a": 1e-4})
    assert identity({"a": 1}) != identity({"a": "1"})
    assert identity({"a": 1}) != identity({"b": 1})


def test_a_long_name_is_cut_and_ends_in_a_part_of_the_identity() -> None:
    path = spelled_out("text")
    one = label("case", [(path, "x" * 300)], "0123456789ab")
    assert len(one) == MAX_LABEL
    assert one.endswith("_012345")


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3)


@hypothesis.settings(deadline=None, max_examples=300)
@hypothesis.given(paths=st.lists(PATHS, min_size=2, max_size=5))
def test_two_paths_overlap_if_one_is_the_other_or_a_part_of_it(paths: Sequence[list[str]]) -> None:
    spelled = [spelled_out(".".join(["tasks", *path])) for path in paths]
    expected = any(
        first[: len(second)] == second or second[: len(first)] == first
        for index, first in enumerate(paths)
        for second in paths[index + 1 :]
    )
    assert any(True for _ in overlaps(spelled)) == expected


def test_a_name_that_begins_like_another_one_does_not_overlap() -> None:
    assert not list(
        overlaps([spelled_out("tasks.a.timeout"), spelled_out("tasks.ab.timeout"), spelled_out("a")])
    )


def test_a_million_points_are_counted_without_being_made() -> None:
    sweep = schema.Sweep(axes={name: list(range(10)) for name in "abcdefghijkl"})
    assert total(sweep) == 10**12
    assert by_path(next(points(sweep))) == dict.fromkeys("abcdefghijkl", 0)

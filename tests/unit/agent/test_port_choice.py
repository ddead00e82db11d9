"""The choice of ports: outside of the system's ranges, each once, from a start that depends on the run."""

import hypothesis
from hypothesis import strategies as st

from sflow_agent.core.port_choice import FEWEST, FIRST, LAST, PortChoice, usable_ports


def test_ephemeral_and_reserved_ports_are_left_out() -> None:
    ports, is_outside = usable_ports("32768\t60999", "8080,15000-15002,61000")
    assert is_outside
    assert ports[0] == FIRST
    assert ports[-1] == LAST
    assert not {15000, 15001, 15002, 32768, 60999, 61000} & set(ports)
    assert {14999, 15003, 32767, 61001} <= set(ports)


def test_a_range_that_leaves_no_port_is_used_nevertheless() -> None:
    ports, is_outside = usable_ports("1024 65000", "12000")
    assert not is_outside
    assert 11999 in ports
    assert 12000 not in ports
    assert 40000 in ports


def test_a_thousand_outside_are_enough() -> None:
    assert usable_ports(f"{FIRST} {LAST - FEWEST}", "")[1]
    assert not usable_ports(f"{FIRST} {LAST - FEWEST + 1}", "")[1]


@hypothesis.given(
    ports=st.sets(st.integers(1, 60), min_size=1).map(sorted),
    busy=st.sets(st.integers(1, 60)),
    wanted=st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=8),
    seed=st.text(max_size=3),
)
def test_found_ports_were_free_and_ports_taken_in_vain_are_given_back(
    ports: list[int], busy: set[int], wanted: list[tuple[int, bool]], seed: str
) -> None:
    taken: set[int] = set()

    def take(port: int) -> bool:
        if port in busy:
            return False
        assert port not in taken, f"{port} was asked for while it was held"
        taken.add(port)
        return True

    choice = PortChoice(ports, seed)
    for count, contiguous in wanted:
        before = set(taken)
        free = sorted(set(ports) - busy - before)
        busy |= before  # what others hold looks the same
        found = choice.find(count, contiguous, take, taken.remove)
        if found is None:
            assert taken == before
            runs = [free[i : i + count] for i in range(len(free) - count + 1)]
            assert not any(run[-1] - run[0] == count - 1 for run in runs) if contiguous else len(free) < count
        else:
            assert taken == before | set(found)
            assert len(found) == count
            assert set(found) <= set(free)
            assert not contiguous or list(found) == list(range(found[0], found[0] + count))


def test_two_that_choose_at_the_same_time_begin_elsewhere() -> None:
    ports = list(range(10_000, 30_000))
    one, two = (PortChoice(ports, seed).find(1, False, lambda _: True, print) for seed in ("a 0", "a 1"))
    assert one != two

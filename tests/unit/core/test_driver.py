"""The harness itself: a command that a scheduler should not give, or that a test does not look at, fails the test."""

import pytest

from sflow_ctl.core import reactor
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.run import Run
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, goodbye, hello, started


def test_a_warning_that_a_test_ignores_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = reactor.settle

    def with_warning(run: Run, out: Effects, now: float) -> None:
        out.warn("spurious")
        settle(run, out, now)

    monkeypatch.setattr(reactor, "settle", with_warning)
    run = Driver(a_plan(a_task("a")))
    run(hello())
    with pytest.raises(AssertionError, match="warn: spurious"):
        run(started("a"))
    run(started("a"))
    with pytest.raises(AssertionError, match="warn: spurious"):
        run.check_nothing_ignored()


def test_the_end_of_a_run_must_be_looked_at() -> None:
    run = Driver(a_plan(a_task("a")))
    run(hello(), started("a"), exited("a"))
    run(goodbye())
    with pytest.raises(AssertionError, match="finish completed"):
        run.check_nothing_ignored()
    run = Driver(a_plan(a_task("a")))
    run(hello(), started("a"), exited("a"))
    assert run(goodbye())[-1] == "finish completed"
    run.check_nothing_ignored()


def test_to_look_at_one_command_expects_that_one_only() -> None:
    run = Driver(a_plan(a_task("a"), nodes=2))
    run(hello(0), hello(1, "s2"))
    lines = run.lose(1)
    assert lines.ignored() == []
    lines = run(hello(1, "s3"))
    assert lines.ignored() == ["1: abandon"]
    assert "1: abandon" in lines
    assert lines.ignored() == []


def test_a_rank_that_is_ordered_twice_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    send_spawns = Effects.send_spawns

    def twice(out: Effects) -> None:
        again = {node: list(specs) for node, specs in out._spawns.items()}
        send_spawns(out)
        out._spawns.update(again)
        send_spawns(out)

    monkeypatch.setattr(Effects, "send_spawns", twice)
    with pytest.raises(AssertionError, match="a#1 is ordered twice"):
        Driver(a_plan(a_task("a")))(hello())

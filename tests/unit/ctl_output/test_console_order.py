"""The order of lines on the console: a task's start comes before its output."""

import os

import msgspec

from sflow_ctl.cli.terminal.console import Console
from sflow_ctl.core.states import Reason, TaskState, Transition
from tests.unit.ctl_output.test_report import plan_of

S = TaskState


def change(task: str, old: TaskState, new: TaskState, attempt: int = 1) -> Transition:
    return Transition(task=task, attempt=attempt, old=old, new=new, reason=Reason("x"), node=0)


def shown(final: bool, is_terminal: bool, labels: tuple[str, ...] = ("a",)) -> list[str]:
    """Return what is shown of a task whose output comes before the report that it runs."""
    plan = plan_of("a")
    tasks = [
        msgspec.structs.replace(task, finally_when="after_stop" if final else None) for task in plan.tasks
    ]
    read_end, write_end = os.pipe()
    environ = {"TERM": "dumb", "LANG": "C"}
    console = Console(
        msgspec.structs.replace(plan, tasks=tuple(tasks)),
        descriptor=write_end,
        environ=environ,
        is_terminal=is_terminal,
    )
    console.start()
    console.transition(change("a", S.QUEUED, S.STARTING))
    for label in labels:
        console.output(label, b"first\n")
    console.transition(change("a", S.STARTING, S.RUNNING))
    console.output(labels[0], b"second\n")
    assert console.close()
    os.close(write_end)
    with open(read_end, "rb") as file:  # noqa: PTH123 - a descriptor
        return file.read().decode().splitlines()


def test_ux_15_a_start_is_said_before_the_first_line_and_once() -> None:
    assert shown(final=False, is_terminal=True) == ["-- a started", "[a] first", "[a] second"]


def test_ux_15_processes_of_several_nodes_start_once() -> None:
    lines = shown(final=False, is_terminal=True, labels=("a.0", "a.1"))
    assert lines == ["-- a started", "[a.0] first", "[a.1] first", "[a.0] second"]


def test_ux_02_what_runs_at_the_end_is_said_also_in_a_pipe() -> None:
    for is_terminal in (True, False):
        assert shown(final=True, is_terminal=is_terminal) == [
            "-- running finally: a",
            "[a] first",
            "[a] second",
        ]
    assert shown(final=False, is_terminal=False) == ["[a] first", "[a] second"]

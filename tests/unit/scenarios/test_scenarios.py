"""What a scheduler does in whole courses of events is what their transcripts say: `SFLOW_REWRITE=1` writes them anew.

Read the difference of a transcript as one reads that of code: each line is an order that agents will follow.
"""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from protocol.messages.facts import ExitCause, LiveRank, RankExited, RankIdle
from protocol.messages.rank_spec import HangPolicy, SideCommand
from sflow_ctl.core.events import AgentLost, MessageReceived, NodeCleared, StopRequested, WakeUp
from sflow_ctl.plan.model import Placement
from tests.unit.core.plans import a_plan, a_task, cleared, exited, goodbye, hello, rank, ready, started
from tests.unit.scenarios.transcript import Transcript

HERE = Path(__file__).parent


def on(*nodes: int) -> Placement:
    return Placement(nodes=nodes)


def handshake() -> Transcript:
    """Agents join, lose their connection, are restarted, and have what must not live."""
    run = Transcript(
        a_plan(a_task("a", retries=1, interval_s=2.0), a_task("b", placement=on(1)), nodes=2),
        "Two agents join. One loses its connection, then is restarted; the other has an attempt that must not live.",
    )
    run(hello(0, "s1"), now=0.5)
    run(started("a"), now=0.6)
    run.note("The second agent is late: its task waits for it.")
    run(hello(1, "s2"), now=3.0)
    run(started("b", node=1), now=3.1)
    run.note("A connection breaks; the agent says hello again with what it has. Nothing is started twice.")
    run(hello(0, "s3", live=(LiveRank(rank("a"), 1, 0),)), now=8.0)
    run.note("The agent itself was restarted: its processes died with it.")
    run(hello(0, "s4", incarnation=2), now=20.0)
    run(WakeUp(), now=22.0)
    run(started("a", 2), now=22.1)
    run.note("An agent still has the first attempt, and an exit that it could not report.")
    message = exited("b", node=1).message
    assert isinstance(message, RankExited)
    run(hello(1, "s5", exited=(message,)), now=30.0)
    run(hello(0, "s6", 2, live=(LiveRank(rank("a"), 1, 0), LiveRank(rank("a", 2), 2, 0))), now=31.0)
    run(exited("a", attempt=2), now=32.0)
    run(goodbye(0), goodbye(1), now=32.1)
    return run


def lost_node() -> Transcript:
    """A node is lost under a service, a pinned task and one that may run elsewhere."""
    either = Placement(nodes=(1, 0), is_flexible=True, node_count=1)
    run = Transcript(
        a_plan(
            a_task("server", service=True, placement=on(0)),
            a_task("moves", "server", retries=1, interval_s=1.0, placement=either),
            a_task("pinned", placement=on(1), on_failure="isolate"),
            a_task("client", "pinned"),
            nodes=2,
        ),
        "Node 1 is lost. What may run elsewhere does; what may not is lost, and what needs it is skipped.",
        fence_s=70.0,
    )
    run(hello(0, "s1"), hello(1, "s2"), now=0.0)
    run(started("server"), started("pinned", node=1), now=0.2)
    run(ready("server"), now=1.0)
    run(started("moves", node=1), now=1.1)
    run(AgentLost(node=1, reason="silent for 30 s"), now=60.0)
    run.note("Its agent comes back: it is not part of the run any more.")
    run(hello(1, "s3"), now=61.0)
    run.note("No second attempt of a task beside the first: the lost node must have ended it.")
    run(WakeUp(), now=62.0)
    run(NodeCleared(node=1), now=75.0)
    run(WakeUp(), now=76.0)
    run(started("moves", 2), now=76.2)
    run(exited("moves", attempt=2), now=90.0)
    run(exited("server", signal=15), now=91.0)
    run(goodbye(0), now=91.2)
    return run


def hang() -> Transcript:
    """A task falls silent, is ended as a hang, hangs again, and the run ends."""
    watch = HangPolicy(no_output_s=60.0, command=SideCommand(argv=("py-spy", "dump"), timeout_s=10.0))
    run = Transcript(
        a_plan(a_task("train", retries=1, interval_s=5.0, hang=watch), a_task("evaluate", "train")),
        "A task prints nothing for too long, twice: the first hang is tried again, the second ends the run.",
    )
    silence = MessageReceived(node=0, message=RankIdle(rank=rank("train"), kind="output", is_quiet=True))
    run(hello(), started("train"), now=0.0)
    run(silence, now=60.0)
    run.note("Its agent runs the hang's command, then stops the task; the log says where it hung.")
    run(exited("train", signal=15, cleared=False), now=65.0)
    run(cleared("train"), now=66.0)
    run(WakeUp(), now=71.0)
    run(started("train", 2), now=71.1)
    run.note("It prints a line in time. Then it hangs for good.")
    life = RankIdle(rank=rank("train", 2), kind="output", is_quiet=False)
    run(MessageReceived(node=0, message=life), now=131.0)
    again = RankIdle(rank=rank("train", 2), kind="output", is_quiet=True)
    run(MessageReceived(node=0, message=again), now=191.0)
    run(exited("train", signal=9, attempt=2), now=201.0)
    run(goodbye(), now=201.2)
    return run


def gang_failure() -> Transcript:
    """One rank of a gang fails; the failures that follow from it are not the cause."""
    gang = a_task("gang", placement=on(0, 1), ranks_per_node=(2, 1), kill_on_bad_exit=True)
    run = Transcript(
        a_plan(gang, a_task("beside"), nodes=2),
        "Rank 2 of a gang of three fails. The others are stopped, and the gang's failure is attributed to rank 2.",
    )
    run(hello(0, "s1"), hello(1, "s2"), now=0.0)
    run(started("gang"), started("gang", rank_number=1), started("gang", node=1, rank_number=2), now=0.3)
    run(started("beside"), now=0.4)
    why = ExitCause(word="cuda_oom", text="CUDA out of memory", line="torch.OutOfMemoryError: CUDA ...")
    run(with_facts(exited("gang", 1, node=1, rank_number=2, runtime_s=9.0), cause=why), now=9.3)
    run.note("A rank that lost its peer fails by itself: its agent had not been asked to stop it yet.")
    run(exited("gang", 250, rank_number=1, runtime_s=9.4), now=9.5)
    run(with_facts(exited("gang", signal=15, cleared=False, runtime_s=9.5), was_asked=True), now=9.6)
    run.note("The gang has ended when its process trees are gone. Its failure ends the run.")
    run(cleared("gang"), now=10.0)
    run(with_facts(exited("beside", signal=15), was_asked=True), now=10.5)
    run(goodbye(0), goodbye(1), now=10.6)
    return run


def with_facts(event: MessageReceived, **facts: object) -> MessageReceived:
    """The exit, with more that its agent knows of it."""
    return msgspec.structs.replace(event, message=msgspec.structs.replace(event.message, **facts))


def interrupted() -> Transcript:
    """A user presses Ctrl-C, twice."""
    run = Transcript(
        a_plan(
            a_task("db", service=True),
            a_task("web", "db", service=True),
            a_task("load", "web"),
            a_task("archive", finally_when="after_stop", timeout_s=60.0),
        ),
        "Ctrl-C: tasks are stopped in reverse order of their dependencies, and `finally` runs. Ctrl-C again.",
    )
    run(hello(), started("db"), ready("db"), started("web"), ready("web"), started("load"), now=0.0)
    run(StopRequested(signal="SIGINT"), now=10.0)
    run(exited("load", signal=2), now=10.5)
    run(exited("web", signal=15), now=11.0)
    run(exited("db", signal=15), now=11.5)
    run(started("archive"), now=11.6)
    run(StopRequested(signal="SIGINT", force=True), now=15.0)
    run(exited("archive", signal=9), now=15.1)
    run(goodbye(), now=15.2)
    return run


SCENARIOS: list[Callable[[], Transcript]] = [handshake, lost_node, hang, gang_failure, interrupted]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_transcript_is_what_the_scheduler_does(scenario: Callable[[], Transcript]) -> None:
    page = HERE / f"{scenario.__name__}.txt"
    text = scenario().text()
    if os.environ.get("SFLOW_REWRITE"):
        page.write_text(text, encoding="utf-8")
    assert text == page.read_text(encoding="utf-8"), "SFLOW_REWRITE=1 writes it anew"


def test_every_transcript_has_its_scenario() -> None:
    assert {page.stem for page in HERE.glob("*.txt")} == {scenario.__name__ for scenario in SCENARIOS}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_scenario_is_followed_to_the_end_of_its_run(scenario: Callable[[], Transcript]) -> None:
    assert scenario().scheduler.is_finished

"""Starts agents as a run does, has them examine their nodes, and ends them.

Collects facts for the doctor; judges nothing.
"""

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from protocol.errors import RunDirectoryError
from protocol.messages.facts import Hello, Inspected
from protocol.messages.inspection import MeshTarget
from protocol.messages.orders import Inspect, Leave
from sflow_ctl.core.events import AgentJoined, AgentLost, MessageReceived, SchedulerEvent
from sflow_ctl.doctor.facts import Clock, Examination, ExaminedNode, SlurmFacts
from sflow_ctl.doctor.mesh import targets
from sflow_ctl.plan.model import Plan, PlannedNode
from sflow_ctl.runtime.files.settings_files import RunSettings
from sflow_ctl.runtime.fleet.fleet import Fleet, FleetRequest, open_fleet
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import write_durably
from sflow_ctl.runtime.run.options import FleetOptions
from sflow_ctl.version import VERSION

if TYPE_CHECKING:
    from sflow_ctl.runtime.slurm.allocation import Allocation

CLOCK_ROUNDS = 5
CLOCK_WITHIN_S = 3.0
REPORT_WITHIN_S = 12.0
MESH_WITHIN_S = 4.0
"""A lost first packet is repeated after one second, a second one after three."""
ANSWER_S = 5.0
"""Time for the way of an answer, in addition to the limit of its agent."""
END_WITHIN_S, STRAGGLERS_S = 10.0, 2.0


class _Node(Struct):
    """The answers of one node."""

    name: str
    hello: Hello | None = None
    lost: str = ""
    sent_ns: int = 0
    asked: int = -1
    answer: Inspected | None = None
    clock: Clock | None = None
    facts: Inspected | None = None
    mesh: Inspected | None = None


class _Round(Struct):
    """The questions to all agents of a fleet, and their answers."""

    fleet: Fleet
    nodes: list[_Node]
    began: float = field(default_factory=time.monotonic)
    number: int = 0

    def wait_for_all(self, within_s: float) -> None:
        """Wait until every agent has joined, or has ended."""
        for event in self.fleet.early:
            self._take(event)
        self._until(lambda: all(node.hello is not None or node.lost for node in self.nodes), within_s)

    def ask(self, question: Callable[[int, _Node], Inspect | None], within_s: float) -> None:
        """Ask all agents at once; wait until all have answered, have ended, or have taken too long."""
        self.number += 1
        for index, node in enumerate(self.nodes):
            node.answer, node.asked = None, -1
            order = question(index, node) if node.hello is not None and not node.lost else None
            if order is not None:
                node.asked, node.sent_ns = self.number, time.time_ns()
                self.fleet.link.send(index, order)
        self._until(
            lambda: all(node.answer is not None or node.asked < 0 or node.lost for node in self.nodes),
            within_s,
        )

    def _until(self, is_over: Callable[[], bool], within_s: float) -> None:
        link, launcher = self.fleet.link, self.fleet.launcher
        deadline = time.monotonic() + within_s
        while True:
            link.flush(time.monotonic())
            left = min(deadline, link.next_wakeup()) - time.monotonic()
            if is_over() or time.monotonic() >= deadline:
                return
            link.wait(max(1, int(left * 1000)))
            now = time.monotonic()
            for event in [*link.receive(now), *link.tick(now)]:
                self._take(event)
            for end in launcher.ended():
                self.nodes[end.node].lost = self.nodes[end.node].lost or end.how

    def _take(self, event: SchedulerEvent) -> None:
        match event:
            case AgentJoined(hello=hello):
                node = self.nodes[hello.node]
                node.hello = node.hello or hello
                self.fleet.link.accept(hello.node, hello.session, ())
            case AgentLost(node=index, reason=reason):
                self.nodes[index].lost = self.nodes[index].lost or reason
            case MessageReceived(node=index, message=Inspected() as answer):
                node = self.nodes[index]
                if answer.number == node.asked and node.answer is None:
                    node.answer = answer
                    self._compare(node, answer)
            case _:
                pass

    def _compare(self, node: _Node, answer: Inspected) -> None:
        """Compare clocks; the shortest round trip gives the most precise result."""
        now_ns = time.time_ns()
        half_s = (now_ns - node.sent_ns) / 2e9
        if node.clock is None or half_s < node.clock.uncertainty_s:
            ahead_s = (answer.clock_ns - (now_ns + node.sent_ns) / 2) / 1e9
            node.clock = Clock(ahead_s=ahead_s, uncertainty_s=half_s)


def examine(
    options: FleetOptions,
    settings: RunSettings,
    allocation: "Allocation | None",
    slurm: SlurmFacts | None,
    gpus_expected: int | None,
) -> Examination:
    """Return all facts about the nodes of the job, or about this machine.

    Raises: LaunchError if no agent can be started or none has joined, RunDirectoryError; nothing is left
    then.
    """
    if allocation is not None:
        names = tuple(node.name for node in allocation.nodes)
    else:  # the names that a run gives them
        names = ("localhost", *(f"localhost-{n}" for n in range(1, options.nodes or 1)))
    run_id = f"doctor-{os.urandom(4).hex()}"
    began = time.monotonic()
    with (
        _output_directory(settings.output_dir),
        _fleet(FleetRequest(_plan(names, allocation), run_id, options, settings), allocation) as fleet,
    ):
        talk = _Round(fleet, [_Node(name) for name in names])
        for index in fleet.missing:
            talk.nodes[index].lost = f"no message within {settings.join_within_s:g} s"
        talk.wait_for_all(settings.join_within_s)
        called_after_s = time.monotonic() - began
        _examine_all(talk, settings)
    called = [node for node in talk.nodes if node.hello is not None]
    return Examination(
        host=platform.node(),
        version=VERSION,
        python=platform.python_version(),
        output_dir=str(settings.output_dir),
        nodes=tuple(_examined(node, node.hello) for node in called if node.hello is not None),
        missing=tuple((node.name, node.lost or "silent") for node in talk.nodes if node.hello is None),
        called_after_s=called_after_s,
        slurm=slurm,
        gpus_expected=gpus_expected,
    )


def _examine_all(talk: _Round, settings: RunSettings) -> None:
    """Compare clocks first, before other traffic; test connections last, when all agents are known to listen."""
    for _ in range(CLOCK_ROUNDS):
        talk.ask(lambda _index, _node: Inspect(number=talk.number), CLOCK_WITHIN_S)
    token = os.urandom(8).hex()
    directories = (("output directory", str(settings.output_dir)),)

    def wants_report(_index: int, _node: _Node) -> Inspect:
        return Inspect(
            number=talk.number,
            token=token,
            wants_report=True,
            directories=directories,
            within_s=REPORT_WITHIN_S,
        )

    talk.ask(wants_report, REPORT_WITHIN_S + ANSWER_S)
    for node in talk.nodes:
        node.facts = node.answer
    called = [index for index, node in enumerate(talk.nodes) if node.hello is not None]
    examined = [_examined(talk.nodes[index], hello) for index in called if (hello := talk.nodes[index].hello)]
    wanted: dict[int, tuple[MeshTarget, ...]] = dict(zip(called, targets(examined), strict=True))

    def reach(index: int, _node: _Node) -> Inspect | None:
        if not wanted[index]:
            return None
        return Inspect(number=talk.number, token=token, targets=wanted[index], within_s=MESH_WITHIN_S)

    talk.ask(reach, MESH_WITHIN_S + ANSWER_S)
    for node in talk.nodes:
        node.mesh = node.answer


def _examined(node: _Node, hello: Hello) -> ExaminedNode:
    return ExaminedNode(
        index=hello.node,
        name=node.name,
        address=hello.address,
        install_path=hello.install_path,
        shares_run_directory=hello.shares_run_directory,
        inventory=hello.inventory,
        clock=node.clock,
        report=node.facts.report if node.facts is not None else None,
        mesh=node.mesh.mesh if node.mesh is not None else (),
        lost=node.lost,
    )


# ---------------------------------------------------------------- temporary files and agents


@contextlib.contextmanager
def _output_directory(path: Path) -> Iterator[None]:
    """Make the output directory for the inspection; remove it again if it is new and empty.

    Raises: RunDirectoryError.
    """
    made = [above for above in (path, *path.parents) if not above.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        Path(path, f".doctor-{os.getpid()}").touch()
        Path(path, f".doctor-{os.getpid()}").unlink()
    except OSError as error:
        raise RunDirectoryError.of(
            "run-directory-not-writable",
            f"no run directory can be made in {path}: {error.strerror or error}",
            where=str(error.filename or path),
            hint="choose another directory with --output-dir",
        ) from error
    try:
        yield
    finally:
        for directory in made:
            with contextlib.suppress(OSError):
                directory.rmdir()


def _plan(names: tuple[str, ...], allocation: "Allocation | None") -> Plan:
    """Return a plan without tasks that has these nodes."""
    nodes = tuple(
        PlannedNode(
            index=index,
            backend="nodes",
            backend_type="local" if allocation is None else "slurm",
            backend_index=index,
            name=name,
            address="",
            gpus=None,
            job_id=None if allocation is None else allocation.job_id,
        )
        for index, name in enumerate(names)
    )
    return Plan(workflow="doctor", tasks=(), nodes=nodes)


@contextlib.contextmanager
def _fleet(request: FleetRequest, allocation: "Allocation | None") -> Iterator[Fleet]:
    """Make agents that end with the inspection. Raises: LaunchError."""
    with open_fleet(request, (allocation,), LocalLauncher()) if allocation else _local(request) as fleet:
        fleet.link.waiting.add(fleet.launcher.fileno)
        try:
            yield fleet
        finally:
            for index in range(len(request.plan.nodes)):
                fleet.link.send(index, Leave())
            # An agent that has never joined does not receive this either: it ends with the step.
            _let_leave(fleet, time.monotonic() + (STRAGGLERS_S if fleet.missing else END_WITHIN_S))
            fleet.launcher.wait_all(0.0)
            fleet.clients.close()
            fleet.link.close()


def _let_leave(fleet: Fleet, deadline: float) -> None:
    """Wait for the goodbyes of agents, which they repeat until they are acknowledged."""
    left = len(fleet.link.peers)
    while left > 0 and (now := time.monotonic()) < deadline:
        fleet.link.flush(now)
        fleet.link.wait(50)
        fleet.link.receive(now)
        fleet.link.tick(now)
        left -= len(fleet.launcher.ended())


@contextlib.contextmanager
def _local(request: FleetRequest) -> Iterator[Fleet]:
    """Make a fleet on this machine, with the file that its agents recognise the run directory by."""
    launcher = LocalLauncher()
    with open_fleet(request, (), launcher) as fleet:
        directory = request.settings.output_dir / request.run_id
        nonce = directory / layout.NONCE
        nonce.parent.mkdir(mode=0o700, parents=True)
        directory.chmod(0o700)
        write_durably(nonce, fleet.nonce.encode())
        try:
            launcher.start(fleet.configs)
            yield fleet
        finally:
            with contextlib.suppress(OSError):
                nonce.unlink(missing_ok=True)
                nonce.parent.rmdir()
                directory.rmdir()

"""Wires one agent: its configuration, its parts, the sources of its loop, its hello, and how it leaves.

The parts do the work, `core` makes the decisions. The guardian calls `run_agent` in its child process.
"""

import gc
import os
import select
import time
from collections.abc import Callable
from functools import partial

from protocol.errors import FleetError
from protocol.machine.loop_watch import LoopWatch, SpeakerThread
from protocol.machine.prctl import adopt_orphans, hide_memory
from protocol.messages.config import AgentConfig
from protocol.messages.facts import Hello, Notice
from protocol.session.codec import encode, prepare_decoders
from protocol.session.version import PROTOCOL_VERSION
from protocol.text.line_pattern import Groups, use_slow_engine
from sflow_agent.configuration import left_config, read_config
from sflow_agent.connection.legacy import Legacy
from sflow_agent.connection.start_gate import StartGate
from sflow_agent.core.agent import AgentCore
from sflow_agent.descriptors import Descriptors
from sflow_agent.introduction import Introduction, print_error
from sflow_agent.launch.direct import DirectCommands
from sflow_agent.launch.inherited import task_environment
from sflow_agent.limits import allow_many, bear_run_mark, run_mark
from sflow_agent.link import ControllerLink
from sflow_agent.logs.follower import LogFollower
from sflow_agent.logs.log_place import LogPlace
from sflow_agent.logs.output import Outputs
from sflow_agent.logs.output_handover import OutputSender
from sflow_agent.loop import EventSource, Loop
from sflow_agent.node.gpu_watch import GpuWatch
from sflow_agent.node.interfaces import Interfaces
from sflow_agent.node.inventory import gpu_view, take_inventory
from sflow_agent.node.memory_events import MemoryEvents
from sflow_agent.node.suspensions import Suspensions
from sflow_agent.performer import Performer
from sflow_agent.probes.watcher import ProbeWatcher
from sflow_agent.processes.cleanup import Cleanups
from sflow_agent.processes.cleanup_list import CleanupList
from sflow_agent.processes.containers import Containers
from sflow_agent.processes.signals import Signals
from sflow_agent.processes.spawn import Spawner
from sflow_agent.processes.table import Processes
from sflow_agent.processes.tree import StepMarks
from sflow_agent.starting import Parts
from sflow_agent.worker import Workers

EXIT_INFRASTRUCTURE = 3
GOODBYE_WITHIN_S = 2.0
SPEAKS_EVERY_S = 1.0
"""Half of the interval of heartbeats: a loop that stands still for so long has a thread send them."""
Keep = Callable[[int, str], object]
"""Tells a local run's keeper the pid of the controller and the marker of the run."""
NoteHeard = Callable[[float, float], object]
"""Reports to the guardian when a controller was last heard of (monotonic s), and how long the agent lives without one."""
LEAVES_WITHIN_S = 30.0
"""What the guardian gives an agent that has nothing to do but to end."""


def run_agent(
    guardian: int,
    encoded_config: str | None,
    cleanups: CleanupList,
    handover: OutputSender | None,
    note_heard: NoteHeard,
    legacy: Legacy,
    keep: Keep | None = None,
) -> int:
    """Run the agent to its end; return its exit status. `guardian` is its parent's pid, `legacy` what the agent before left."""
    adopt_orphans()
    hide_memory()
    allow_many()
    use_slow_engine(_search_in_a_process)
    prepare_decoders()  # a local agent is started early, and waits for its configuration
    if encoded_config is None:
        import sflow_agent.connection.local
        import sflow_agent.telemetry.telemetry  # noqa: F401 - what it will need, most likely
    try:
        config = left_config(legacy) if legacy.follows else read_config(encoded_config)
        if config is None:
            return 0  # prestarted and not needed
        if keep is not None and config.controller_pid is not None and not legacy.follows:
            keep(config.supervisor_pid or config.controller_pid, config.marker)
        agent = Agent(config, guardian, cleanups, handover, note_heard, legacy)
    except (FleetError, OSError, ValueError) as error:
        print_error(f"cannot start: {error}")
        return EXIT_INFRASTRUCTURE
    return agent.run()


class Agent:
    """One agent: the loop around an `AgentCore`, and the callbacks that the loop needs."""

    def __init__(
        self,
        config: AgentConfig,
        guardian: int,
        cleanups: CleanupList,
        handover: OutputSender | None,
        note_heard: NoteHeard,
        legacy: Legacy,
    ) -> None:
        self._config, self._note_heard, self._legacy = config, note_heard, legacy
        bear_run_mark(config.marker)
        survivors = _end_predecessors(config) if config.predecessors else []
        self._place = place = LogPlace(config)
        gpus = gpu_view(config.simulated_gpus, os.environ)
        self._inventory, self._started_ns = take_inventory(gpus), time.time_ns()
        self._core = AgentCore(is_in_job="SLURM_JOB_ID" in os.environ)
        self._warned: set[str] = set()
        descriptors = Descriptors(select.epoll())
        workers, memory = Workers(descriptors), MemoryEvents()
        self._signals = Signals(descriptors, guardian)
        environment = task_environment(dict(os.environ), config.marker)
        interfaces = Interfaces(is_chosen=config.is_interface_chosen)
        direct = DirectCommands(workers, environment, os.getcwd())  # noqa: PTH109
        spawner = Spawner(place.base, environment, gpus, config.node_name, interfaces, direct)
        steps = _step_marks(config, cleanups)
        containers = Containers(environment, gpus, interfaces, spawner.find, spawner.log_path)
        self._outputs = outputs = Outputs(descriptors, handover, self._warn_once)
        self._processes = processes = Processes(
            spawner, containers, Cleanups(cleanups), descriptors, self._signals, memory, outputs, steps
        )
        self._link = link = ControllerLink(config, self._hello, time.monotonic(), descriptors)
        self._logs = logs = LogFollower(link.send_log, outputs, self._warn_once, place.index)
        logs.hand_over(place.left)
        self._probes = probes = ProbeWatcher(
            descriptors,
            workers,
            processes,
            logs,
            spawner.log_path,
            config.marker,
            has_all_logs=place.is_shared,
            report=link.report,
            warn=self._warn_once,
        )
        self._introduction = Introduction(config, link)
        self._signals.on_terminated = link.expect_end
        link.listeners.on_log_ack = logs.acknowledge
        link.listeners.on_new_session = self._on_new_session
        link.listeners.on_look = note_heard
        self._watch_controller()
        parts = Parts(
            config=config,
            inventory=self._inventory,
            spool_index=place.index,
            ranks=self._core.ranks,
            descriptors=descriptors,
            link=link,
            workers=workers,
            spawner=spawner,
            processes=processes,
            logs=logs,
            probes=probes,
            memory=memory,
            report=link.report,
            warn=self._warn_once,
        )
        self._loop = self._make_loop(parts)
        for pid in survivors:
            self._warn_once(f"process {pid} of the run's earlier agents could not be ended")

    def run(self) -> int:
        """Run until the core says exit; return the status."""
        from protocol.machine.code_cache import settle  # imported by the entry point, if there is one

        self._signals.install()
        settle()
        gc.freeze()  # modules live as long as the process
        gc.enable()
        return self._leave(self._loop.run())

    def _watch_controller(self) -> None:
        """Watch a controller on this machine, and those that take over from it."""
        config, link = self._config, self._link
        if config.controller_pid is not None:
            self._signals.watch_controller(config.controller_pid, config.supervisor_pid)
            self._signals.on_controller_lost = link.redial
            link.listeners.on_controller = partial(
                self._signals.watch_controller, supervisor=config.supervisor_pid
            )
            link.listeners.controller_lives = self._signals.controller_lives

    def _make_loop(self, parts: Parts) -> Loop:
        """Return the loop with the sources that every agent has, in the order in which they are polled."""
        link = self._link
        self._gpus = GpuWatch(parts.workers, parts.inventory.gpus, link.report, parts.warn, time.monotonic())
        self._performer = performer = Performer(parts, self._add_source, self._exit)
        watch = LoopWatch()
        self._speaker = SpeakerThread(watch, SPEAKS_EVERY_S, link.speak_for_loop)
        loop = Loop(self._core, performer.perform, link.wait, self._flush, watch)
        gate = StartGate(link.poll, link.next_wakeup, parts.workers, link.report, parts.warn)
        loop.sources.append(
            Suspensions(self._speaker.has_gap, self._speaker.take_gap)
        )  # first: nothing is judged late before it
        loop.sources += [parts.descriptors, gate, self._signals, parts.processes, self._outputs, parts.logs]
        loop.sources += [parts.probes, self._introduction, self._gpus]
        loop.sources.append(parts.processes.trees)  # last: it serves the orders of all others in one scan
        loop.prompt = parts.processes
        return loop

    def _flush(self, now: float) -> None:
        """Send what was reported; what is not waited for comes after it."""
        self._link.flush(now)
        self._performer.forget(now)

    def _add_source(self, source: EventSource) -> None:
        self._loop.sources.insert(-1, source)

    def _exit(self, status: int) -> None:
        self._loop.exit_status = status

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._link.report(Notice(level="warning", text=text))

    # ------------------------------------------------------------------ sessions

    def _hello(self, session: str, number: int, controller_incarnation: int) -> Hello:
        return Hello(
            version=PROTOCOL_VERSION,
            install_path=os.path.dirname(os.path.dirname(__file__)),  # noqa: PTH120
            session=session,
            session_number=number,
            sent_at_ns=time.time_ns(),
            node=self._config.node,
            agent_incarnation=self._started_ns,
            controller_incarnation=controller_incarnation,
            follows=self._config.follows,
            pid=os.getpid(),
            node_name=self._config.node_name,
            inventory=self._inventory,
            shares_run_directory=self._place.is_shared,
            live=self._core.live(),
            exited=self._core.exited(),
            clearing=self._core.clearing(),
            quiet=self._core.quiet(),
            lost_gpus=self._gpus.lost,
            triggered=self._core.triggered(),
        )

    def _on_new_session(self) -> None:
        next_config = self._link.as_session(self._config)
        self._legacy.note(encode(next_config), next_config.restarts)
        self._logs.rewind()
        self._probes.ask_again()
        self._introduction.on_new_session()
        self._speaker.start()

    # ------------------------------------------------------------------ the end

    def _leave(self, status: int) -> int:
        """End what is left, say goodbye, and remove the spool if the controller has all of it."""
        self._speaker.end()
        self._note_heard(time.monotonic() + LEAVES_WITHIN_S, self._config.orphan_grace_s)
        survivors = self._processes.end_everything()
        self._outputs.drain_all()
        if survivors:
            print_error(f"could not end: {', '.join(survivors)}")
        deadline = time.monotonic() + GOODBYE_WITHIN_S
        while self._link.can_deliver and (now := time.monotonic()) < deadline:
            self._link.tick(now)
            self._link.flush(now)
            self._link.wait(20)
            self._link.receive(now)
        self._link.close(linger_ms=200)
        kept = self._place.leave(are_delivered=self._logs.is_delivered)
        if kept is not None:
            print_error(f"logs that could not be handed over are kept in {kept}")
        if status and self._core.ending_because is not None:
            print_error(self._core.ending_because)
        return status


def _step_marks(config: AgentConfig, cleanups: CleanupList) -> StepMarks:
    """Return the marks of job steps, and let the guardian know what they have in common."""
    if "SLURM_JOB_ID" in os.environ:
        cleanups.note_steps(run_mark(config.marker))
    return StepMarks(config.marker)


def _search_in_a_process(pattern: str, line: str, limit: int) -> list[Groups] | None:
    """Search a line that RE2 cannot search."""
    from protocol.machine.pattern_process import search  # few patterns need it

    return search(pattern, line, limit)


def _end_predecessors(config: AgentConfig) -> list[str]:
    from sflow_agent.processes.predecessors import end_predecessors  # few runs are resumed

    return end_predecessors(
        config.predecessors,
        has_containers=config.has_containers,
        docker_host=config.docker_host,
        context=config.context,
    )

"""Viewers over real sockets: they see everything that fits, learn how much did not, and delay no one else."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest
import zmq

from protocol.ids import RankId
from sflow_ctl.core.states import TaskState
from sflow_ctl.runtime.fleet.keys import KeyPair
from sflow_ctl.runtime.logs.consumers.viewers import MAX_VIEWERS
from sflow_ctl.runtime.record.directory import ConnectionFacts
from sflow_ctl.runtime.viewing.client import (
    Current,
    Ended,
    LogOutput,
    OutputEnded,
    ViewerLink,
    ViewEvent,
    connect,
)
from sflow_ctl.runtime.viewing.messages import Attach, Change, Follow, ViewerRefused, decode_to_viewer, encode
from tests.integration.output.fleet import DEADLINE_S, Agent, Controller, change, pair_of, rank_of

S = TaskState
PREAD = os.pread


def facts_of(controller: Controller, keys: KeyPair | None = None) -> ConnectionFacts:
    return ConnectionFacts(
        run_id="R",
        pid=os.getpid(),
        host="here",
        client_endpoints=controller.clients.endpoints,
        controller_key=controller.keys.controller.public,
        viewer_secret=controller.keys.viewer if keys is None else keys.secret,
    )


@contextmanager
def attached(controller: Controller) -> Iterator[ViewerLink]:
    """A viewer, while the main thread answers the authenticator."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(connect, facts_of(controller), DEADLINE_S)
        controller.until(future.done, "a viewer attaches")
    link = future.result()
    assert link is not None
    try:
        yield link
    finally:
        link.close()


def hear(
    controller: Controller, link: ViewerLink, enough: Callable[[list[ViewEvent]], object]
) -> list[ViewEvent]:
    events: list[ViewEvent] = []

    def turn() -> bool:
        events.extend(link.receive(0.01))
        return bool(enough(events))

    controller.until(turn, f"enough events; the last ones {events[-3:]}")
    return events


def bytes_of(events: list[ViewEvent], rank: RankId) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, LogOutput) and event.rank == rank)


def states_of(events: list[ViewEvent]) -> list[tuple[str, TaskState]]:
    return [(event.transition.task, event.transition.new) for event in events if isinstance(event, Change)]


def write_log(directory: Path, task: str, data: bytes) -> None:
    (directory / task).mkdir(exist_ok=True)
    with (directory / f"{task}/{task}.log").open("ab") as file:
        file.write(data)


def test_a_viewer_gets_past_and_future_output(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller:
        controller.publish(change("a", S.STARTING))
        controller.publish(change("a", S.RUNNING))
        with attached(controller) as link:
            first = hear(controller, link, lambda events: Current() in events)
            assert states_of(first) == [("a", S.RUNNING)]
            controller.publish(change("a", S.COMPLETED))
            assert hear(controller, link, states_of)[-1:] != []


def test_a_large_run_arrives_whole(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller:
        for number in range(20_000):
            controller.publish(change(f"t{number}", S.RUNNING))
        with attached(controller) as link:
            events = hear(controller, link, lambda events: Current() in events)
            assert len(set(states_of(events))) == 20_000


def test_a_followed_log_comes_from_its_file_and_then_as_it_grows(tmp_path: Path) -> None:
    rank = rank_of("a")
    write_log(tmp_path, "a", b"one\ntwo\nthree\n")
    with Controller(tmp_path) as controller, attached(controller) as link:
        agent = Agent(controller)
        controller.publish(change("a", S.RUNNING))
        hear(controller, link, states_of)
        link.follow(rank, lines=2)
        hear(controller, link, lambda events: bytes_of(events, rank) == b"two\nthree\n")
        write_log(tmp_path, "a", b"four\n")  # shared: the agent tells, and the file has it
        agent.send(rank, 14, b"four\n", is_spool=False)
        hear(controller, link, lambda events: bytes_of(events, rank) == b"four\n")
        write_log(tmp_path, "a", b"five\n")  # nobody tells
        hear(controller, link, lambda events: bytes_of(events, rank) == b"five\n")
        controller.publish(change("a", S.COMPLETED))
        hear(controller, link, lambda events: OutputEnded(rank) in events)
        agent.close()


def test_what_was_written_last_comes_before_the_goodbye(tmp_path: Path) -> None:
    """Nothing has said that the log has grown, and the next look at it would come too late."""
    rank = rank_of("a")
    write_log(tmp_path, "a", b"one\n")
    with Controller(tmp_path) as controller, attached(controller) as link:
        controller.publish(change("a", S.RUNNING))
        hear(controller, link, states_of)
        link.follow(rank, lines=1)
        hear(controller, link, lambda events: bytes_of(events, rank) == b"one\n")
        write_log(tmp_path, "a", b"two\n")
        controller.close()
        events: list[ViewEvent] = []
        deadline = time.monotonic() + DEADLINE_S
        while Ended(is_orderly=True) not in events and time.monotonic() < deadline:
            events += link.receive(0.1)
        assert bytes_of(events, rank) == b"two\n"


def test_a_spooled_log_is_followed_as_it_arrives(tmp_path: Path) -> None:
    rank = rank_of("a")
    with Controller(tmp_path) as controller, attached(controller) as link:
        agent = Agent(controller)
        controller.publish(change("a", S.RUNNING))
        hear(controller, link, states_of)
        link.follow(rank, lines=0, offset=0)
        lines = [b"line %d\n" % number for number in range(1_000)]
        offset = 0
        for line in lines:
            agent.send(rank, offset, line, is_end=line is lines[-1])
            offset += len(line)
        events = hear(controller, link, lambda events: OutputEnded(rank) in events)
        assert bytes_of(events, rank) == b"".join(lines)
        agent.close()


def test_following_a_log_that_does_not_exist_ends_at_once(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller, attached(controller) as link:
        hear(controller, link, lambda events: Current() in events)
        for rank in (rank_of("nothing"), rank_of("../../etc/passwd")):
            link.follow(rank, lines=10)
        hear(controller, link, lambda events: sum(isinstance(event, OutputEnded) for event in events) == 2)


def test_the_end_of_the_run_is_the_last_thing_a_viewer_hears(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    with attached(controller) as link:
        hear(controller, link, lambda events: Current() in events)
        assert controller.output.close(DEADLINE_S)
        hear(controller, link, lambda events: Ended(is_orderly=True) in events)
    controller.is_closed = True
    controller.clients.close()
    controller.link.close()


def test_a_viewers_key_opens_nothing_else(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        socket.curve_serverkey = controller.keys.controller.public.encode()
        pair = pair_of(controller.keys.viewer)
        socket.curve_publickey, socket.curve_secretkey = pair.public.encode(), pair.secret.encode()
        socket.connect(controller.link.transport.control_endpoints[0])
        socket.send(b"stop everything")
        controller.until(lambda: controller.link.refused().get("unauthenticated_connections"), "denial")
        socket.close()
        context.term()


def test_attaching_needs_the_key(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller, ThreadPoolExecutor(1) as pool:
        future = pool.submit(connect, facts_of(controller, KeyPair.make()), 0.5)
        controller.until(future.done, "an answer")
        assert future.result() is None
        assert controller.clients.refused()["unauthenticated_connections"]


def test_an_agents_key_does_not_open_the_port_of_viewers(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller, ThreadPoolExecutor(1) as pool:
        future = pool.submit(connect, facts_of(controller, controller.keys.agents[0]), 0.5)
        controller.until(future.done, "an answer")
        assert future.result() is None


def test_garbage_from_a_viewer_is_counted(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller, attached(controller) as link:
        for frame in (b"", os.urandom(1_000), encode(Follow(task="x", attempt=1))[:-1]):
            link._socket.send(frame)
        controller.until(lambda: controller.output.counters["malformed"] == 3, "counting")
        controller.publish(change("a", S.RUNNING))
        hear(controller, link, states_of)


def test_a_viewer_of_another_version_is_refused_with_the_reason(tmp_path: Path) -> None:
    with Controller(tmp_path) as controller, attached(controller) as link:
        hear(controller, link, lambda events: Current() in events)
        link._socket.send(encode(msgspec.structs.replace(Attach(), version=99)))
        controller.until(lambda: link._socket.poll(10), "an answer")
        answer = decode_to_viewer(link._socket.recv_multipart()[0])
        assert isinstance(answer, ViewerRefused)
        assert answer.code == "version-mismatch"


_SLOW_VIEWER = """
import sys
from pathlib import Path
import msgspec
from protocol.ids import AttemptId, RankId
from sflow_ctl.runtime.record.directory import ConnectionFacts
from sflow_ctl.runtime.viewing.client import LogOutput, OutputEnded, connect

link = connect(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=ConnectionFacts), 10.0)
link.follow(RankId(AttemptId("a", 1), 0), lines=0, offset=0)
shown = skipped = 0
print("attached", flush=True)
while True:
    for event in link.receive(0.2):
        if isinstance(event, LogOutput):
            shown += event.data.count(b"\\n")
            skipped += event.skipped_lines
        if isinstance(event, OutputEnded):
            print(shown, skipped, flush=True)
            sys.exit()
"""


def test_f62_a_stopped_viewer_slows_no_other_and_learns_how_much_it_missed(tmp_path: Path) -> None:
    lines, size = 400_000, 100
    chunk = (b"x" * (size - 1) + b"\n") * 1_000
    rank = rank_of("a")
    with Controller(tmp_path) as controller:
        controller.publish(change("a", S.RUNNING))
        connection = tmp_path / "connection.json"
        connection.write_bytes(msgspec.json.encode(facts_of(controller)))
        with (
            subprocess.Popen(
                [sys.executable, "-c", _SLOW_VIEWER, str(connection)], stdout=subprocess.PIPE, text=True
            ) as viewer,
            ExitStack() as stack,
        ):
            stack.callback(viewer.kill)  # or its end is awaited for ever when something is wrong
            assert viewer.stdout is not None
            stdout = viewer.stdout
            controller.until(lambda: select.select([stdout], [], [], 0)[0], "the viewer attaches")
            assert stdout.readline() == "attached\n"
            viewer.send_signal(signal.SIGSTOP)
            agent = Agent(controller)
            began = time.monotonic()
            for number in range(lines // 1_000):
                agent.send(rank, number * len(chunk), chunk, is_end=number == lines // 1_000 - 1)
            controller.until(lambda: agent.acknowledged(rank) == lines * size, "the log is here", 20)
            assert time.monotonic() - began < 10
            viewer.send_signal(signal.SIGCONT)
            controller.until(lambda: select.select([stdout], [], [], 0)[0], "the viewer has all of it", 60)
            shown, skipped = (int(word) for word in stdout.readline().split())
            agent.close()
    assert skipped > 0
    assert shown + skipped == lines


def test_a_log_that_several_viewers_are_too_slow_for_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank, lines, size = rank_of("a"), 400_000, 100
    read: list[int] = []

    def pread(descriptor: int, wanted: int, offset: int) -> bytes:
        read.append(wanted)
        return PREAD(descriptor, wanted, offset)

    monkeypatch.setattr(os, "pread", pread)
    write_log(
        tmp_path, "a", (b"x" * (size - 1) + b"\n") * lines
    )  # its agent shares the directory, and sends nothing
    with Controller(tmp_path) as controller, ExitStack() as stack:
        controller.publish(change("a", S.RUNNING))
        links = [stack.enter_context(attached(controller)) for _ in range(4)]
        for link in links:
            hear(controller, link, states_of)
            link.follow(rank, lines=0, offset=0)
        for link in links:
            events = hear(controller, link, lambda events: bytes_of(events, rank))
            (missed,) = [event.skipped_lines for event in events if isinstance(event, LogOutput)]
            assert missed * size + len(bytes_of(events, rank)) == lines * size
    assert lines * size < sum(read) < 1.5 * lines * size


def test_there_is_a_limit_to_viewers(tmp_path: Path) -> None:
    count = MAX_VIEWERS + 8
    with Controller(tmp_path) as controller:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        facts = facts_of(controller)
        sockets = []
        for _ in range(count):
            socket = context.socket(zmq.DEALER)
            socket.linger = 0
            socket.curve_serverkey = facts.controller_key.encode()
            pair = pair_of(facts.viewer_secret)
            socket.curve_publickey, socket.curve_secretkey = pair.public.encode(), pair.secret.encode()
            socket.connect(facts.client_endpoints[0])
            socket.send(encode(Attach()))
            sockets.append(socket)
        controller.until(lambda: all(socket.poll(0) for socket in sockets), "everybody is answered")
        refused = sum(b"too-many-viewers" in socket.recv_multipart()[0] for socket in sockets)
        assert refused == count - MAX_VIEWERS
        for socket in sockets:
            socket.close()
        context.term()

"""A real agent that is asked to examine its node."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.messages.facts import Inspected
from protocol.messages.inspection import MeshTarget, NodeReport
from protocol.messages.orders import Inspect
from tests.integration.agent.fake_controller import FakeController, spec

Make = Callable[..., FakeController]
WITHIN_S = 30.0


def ask(controller: FakeController, order: Inspect) -> Inspected:
    """The agent's answer."""
    controller.order(order)
    found: list[Inspected] = []

    def has_come() -> bool:
        found.extend(fact for fact in controller.said(Inspected) if fact.number == order.number)
        return bool(found)

    controller.until(has_come, f"the answer to {order.number}", within_s=60)
    return found[0]


def report(controller: FakeController, number: int = 1, **changes: object) -> NodeReport:
    """Return the agent's report about its node."""
    fields: dict[str, object] = {"wants_report": True, "token": "t", "within_s": WITHIN_S}
    found = ask(controller, Inspect(number=number, **{**fields, **changes})).report  # type: ignore[arg-type]
    assert found is not None
    return found


def test_an_empty_question_is_answered_with_the_time(controller: FakeController) -> None:
    before = time.time_ns()
    clock_ns = ask(controller, Inspect(number=1)).clock_ns
    assert before <= clock_ns <= time.time_ns()


def test_a_report_has_every_part_and_leaves_nothing_behind(
    controller: FakeController, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    found = report(controller, directories=(("output directory", str(place)),))
    assert found.unanswered == ()
    assert dict(found.versions)["python"] == ".".join(map(str, sys.version_info[:3]))
    assert ("lo", "127.0.0.1") in found.addresses
    assert {limit.name for limit in found.limits} >= {"nofile", "nproc", "memlock", "core"}
    roles = {one.role: one for one in found.directories}
    assert set(roles) == {"output directory", "shared memory", "temporary files"}
    written = roles["output directory"]
    assert written.problem == ""
    assert written.write_s is not None
    assert written.free_bytes > 0
    assert written.file_system
    assert list(place.iterdir()) == []
    assert found.memory_available_bytes > 0
    assert controller.leave() == 0


def test_a_place_that_is_not_there_is_a_problem_of_that_place(controller: FakeController) -> None:
    found = report(controller, directories=(("output directory", "/no/such/place"),))
    (place,) = [one for one in found.directories if one.role == "output directory"]
    assert (place.problem, place.write_s) == ("no such file or directory", None)
    assert found.unanswered == ()


def test_engines_report_whether_they_work(make_controller: Make, tmp_path: Path) -> None:
    programs = {
        "docker": "echo 'permission denied on the socket' >&2; exit 1",
        "podman": "echo 5.1.2",
        "enroot": "exec sleep 100",
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    controller = make_controller().start(env={"PATH": f"{tmp_path}:/usr/bin:/bin"}).welcome()
    found = {engine.name: engine for engine in report(controller).engines}
    assert found["docker"].problem == "permission denied on the socket"
    assert (found["podman"].version, found["podman"].problem) == ("5.1.2", "")
    assert found["enroot"].problem == "enroot has not answered for 8 s"


def test_hanging_parts_are_named_and_the_rest_is_reported_in_time(
    make_controller: Make, tmp_path: Path
) -> None:
    program = tmp_path / "enroot"
    program.write_text("#!/bin/sh\nexec sleep 100\n")
    program.chmod(stat.S_IRWXU)
    controller = make_controller().start(env={"PATH": f"{tmp_path}:/usr/bin:/bin"}).welcome()
    found = report(controller, within_s=3.0)
    assert ("container engine enroot", "no answer within 3 s") in found.unanswered
    assert found.addresses
    assert found.limits
    assert controller.leave() == 0


def test_processes_of_earlier_runs_are_distinguished_from_those_of_live_runs(make_controller: Make) -> None:
    controller, other = make_controller().start().welcome(), make_controller().start().welcome()
    other.spawn(spec("a", "sleep", "60"))
    other.started("a")
    lost = subprocess.Popen(["sleep", "60"], env={**os.environ, "SFLOW_RUN_MARKER": "gone-01234567"})
    try:
        left = {one.run: one for one in report(controller).leftovers}
        assert (left["gone-01234567"].pids, left["gone-01234567"].has_agent) == ((lost.pid,), False)
        assert left[other.marker].has_agent
        assert other.started("a").pid in left[other.marker].pids
        assert controller.marker not in left
    finally:
        lost.send_signal(signal.SIGKILL)
        lost.wait()


# ---------------------------------------------------------------- connections


def target(port: int, node: int = 0, address: str = "127.0.0.1") -> MeshTarget:
    return MeshTarget(node=node, interface="lo", address=address, port=port, is_primary=True)


def test_agents_reach_each_other_and_know_whom(make_controller: Make) -> None:
    one, two = make_controller().start().welcome(), make_controller().start(node=1).welcome()
    ports = report(one).mesh_port, report(two).mesh_port
    targets = (target(ports[1], node=1), target(ports[0], node=1), target(ports[1], node=1, address="::1"))
    found = ask(one, Inspect(number=2, token="t", targets=targets, within_s=WITHIN_S)).mesh
    said = {(result.address, result.problem) for result in found}
    assert len(found) == 3
    assert ("127.0.0.1", "") in said
    assert ("127.0.0.1", "another host or program answers there") in said
    assert [problem for address, problem in said if address == "::1"] != [
        ""
    ]  # of this machine's runs: IPv4's loopback only
    assert all(0 < result.connect_s < WITHIN_S for result in found if not result.problem)


def test_a_target_that_does_not_answer_delays_no_other(controller: FakeController) -> None:
    port = report(controller).mesh_port
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as closed:
        silent_port, closed_port = silent.getsockname()[1], closed.getsockname()[1]
        closed.close()
        targets = (target(port), target(silent_port), target(closed_port))
        found = ask(controller, Inspect(number=2, token="t", targets=targets, within_s=2.0)).mesh
    said = sorted(result.problem for result in found)
    assert said == ["", "connection refused", "no answer within 2 s"]


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * 1000, b"sflow other node 0\n"]
)
def test_another_program_on_the_port_is_not_an_agent(controller: FakeController, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def answer() -> None:
            caller, _ = stranger.accept()
            with caller:
                caller.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        targets = (target(stranger.getsockname()[1]),)
        (found,) = ask(controller, Inspect(number=2, token="t", targets=targets, within_s=WITHIN_S)).mesh
        thread.join()
    assert found.problem == "another host or program answers there"

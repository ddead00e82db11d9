"""Many probes, hanging ones, and few descriptors: the effect on other probes, and leftovers."""

import contextlib
import itertools
import re
import socket
from collections.abc import Callable
from pathlib import Path

from protocol.messages.checks import HttpCheck, Probe, TcpCheck
from protocol.messages.facts import RankStarted
from tests.integration.agent.fake_controller import FakeController, is_alive, spec
from tests.integration.agent.test_checks import get, is_ready, ok, readiness, sleeper, waits_for
from tests.integration.agent.test_logs_and_probes import free_port, listener, python, triggered
from tests.integration.agent.web import black_hole, serving

Make = Callable[..., FakeController]
MANY = 1000


def threads_of(pid: int) -> int:
    found = re.search(r"^Threads:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_thousand_stuck_probes_change_nothing_for_anyone_else(make_controller: Make) -> None:
    # Each of the endpoints accepts, and never answers; one holds its connection half open besides.
    controller = make_controller().start().welcome()
    names = [f"stuck{number}" for number in range(MANY)]
    with black_hole() as hole, serving({"/ok": ok}) as server:
        # Half of them may not even be answered by this one: whose it is must not be found out a thousand times.
        kinds = [
            readiness(get(f"http://127.0.0.1:{hole}/"), timeout_s=60.0, owner=owner)
            for owner in ("any", "run")
        ]
        probes = zip(names, itertools.cycle(kinds), strict=False)
        controller.spawn(*(spec(name, "sleep", "600", probes=(stuck,)) for name, stuck in probes))
        controller.until(lambda: len(controller.said(RankStarted)) == MANY, "all of them", 60.0)
        port = free_port()
        sleeper(controller, "asked", readiness(get(f"{server.url}/ok")))
        sleeper(controller, "program", readiness(command=("true",)))
        controller.spawn(
            python(
                "port",
                listener(port),
                Probe(kind="readiness", checks=(TcpCheck(port=port),), interval_s=60.0),
            ),
            spec("job", "sh", "-c", "echo done"),
        )
        for task in ("asked", "program", "port"):
            triggered(controller, task, 30.0)
        assert controller.exited("job").exit_code == 0
        assert not any(is_ready(controller, name) for name in names)
        assert threads_of(controller.agent) < 10  # no check has one of its own
        for name in names:
            controller.stop(name, grace_s=5)
        ended = [name for name in names if controller.exited(name)]
        assert len(ended) == MANY
        descriptors = Path(f"/proc/{controller.agent}/fd")
        with contextlib.suppress(PermissionError):  # root may look
            controller.until(lambda: len(list(descriptors.iterdir())) < 100, "descriptors given back")


def test_f28_programs_and_names_that_hang_leave_no_thread_and_no_process(
    controller: FakeController, tmp_path: Path
) -> None:
    pids, idle = tmp_path / "pids", threads_of(controller.agent)
    hang = (
        f"echo $$ >> {pids}; setsid sleep 600 & echo $! >> {pids}; trap '' TERM; while :; do sleep 600; done"
    )
    sleeper(controller, "program", readiness(command=("bash", "-c", hang), timeout_s=0.2, interval_s=0.05))
    for number in range(5):
        check = get(f"http://no-such-host-{number}.invalid/")
        sleeper(controller, f"name{number}", readiness(check, timeout_s=0.2, interval_s=0.05))
    controller.until(lambda: pids.exists() and len(pids.read_text().split()) >= 12, "six that hang", 30.0)
    # Each is gone before the next one starts: at most one of each kind is alive, whatever came before.
    groups = [int(pid) for pid in pids.read_text().split()[:-2:2]]
    controller.until(lambda: not any(map(is_alive, groups)), "all but the last gone")
    assert threads_of(controller.agent) < 15
    for task in ("program", *(f"name{number}" for number in range(5))):
        controller.stop(task)
        controller.cleared(task)
    left = [int(pid) for pid in pids.read_text().split()]
    controller.until(lambda: not any(map(is_alive, left)), "all of them gone")
    assert children_of(controller.agent) == []
    # One more may wait for output.
    controller.until(lambda: threads_of(controller.agent) <= idle + 1, "threads of lookups gone", 60.0)


def test_f42_an_agent_that_may_open_few_files_still_works(make_controller: Make) -> None:
    controller = make_controller()
    controller.start(before=("prlimit", "--nofile=48:48")).welcome()
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        check = HttpCheck(method="GET", url=f"http://127.0.0.1:{silent.getsockname()[1]}/", owner="any")
        hold = Probe(kind="readiness", checks=(check,), timeout_s=60.0, interval_s=0.1)
        names = [f"t{number}" for number in range(60)]
        controller.spawn(*(spec(name, "sleep", "600", probes=(hold,)) for name in names))
        waits_for(controller, "t59", "has not answered")
        controller.spawn(spec("job", "sh", "-c", "ulimit -Sn; ulimit -Hn"))
        assert controller.exited("job").exit_code == 0
        assert controller.log("job").split() == ["48", "48"]
        for name in names:
            controller.stop(name)
        for name in names:
            controller.cleared(name)
    port = free_port()
    controller.spawn(python("late", listener(port), Probe(kind="readiness", checks=(TcpCheck(port=port),))))
    triggered(controller, "late")
    assert controller.leave() == 0


def test_f41_a_probes_program_gets_three_descriptors_and_no_secret(
    make_controller: Make, tmp_path: Path
) -> None:
    controller = make_controller()
    controller.start(env={"SFLOW_AGENT_OTHER": "1", "PMI_RANK": "1"}).welcome()
    seen = tmp_path / "seen"
    show = f"ls /proc/self/fd > {seen}.fd; env > {seen}.env; mv {seen}.env {seen}"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the agent has sockets of its own meanwhile
        hold = readiness(get(f"http://127.0.0.1:{silent.getsockname()[1]}/"), timeout_s=60.0)
        sleeper(controller, "held", hold)
        sleeper(controller, "a", readiness(command=("sh", "-c", show)))
        triggered(controller, "a")
    assert (tmp_path / "seen.fd").read_text().split() == ["0", "1", "2", "3"]  # the fourth is ls's own
    variables = seen.read_text()
    assert "SFLOW_ATTEMPT_ID=a#1" in variables
    for secret in (controller.agent_secret, controller.secret):
        assert secret.decode() not in variables
    assert "SFLOW_AGENT" not in variables
    assert "PMI_RANK" not in variables

"""Causes of ranks' ends, found by a real agent for real programs."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from protocol.diagnosis.signatures import Signature
from protocol.messages.checks import Probe, TcpCheck
from protocol.messages.facts import ExitCause, LaunchFailed, RankExited
from protocol.messages.orders import Welcome
from protocol.messages.rank_spec import RequiredFile, RequiredJson, Success
from sflow_agent.node.memory_events import MemoryEvents, kernel_killed
from sflow_agent.probes.port_holder import owner_of_port
from tests.integration.agent.fake_controller import FakeController, rank_id, spec

SERVER = (
    "import socket, time; s = socket.create_server(('127.0.0.1', 0));"
    "print(s.getsockname()[1], flush=True); time.sleep(600)"
)
Make = Callable[..., FakeController]


def cause(controller: FakeController, *argv: str, **how: object) -> ExitCause:
    """Return the agent's cause of a program's end."""
    name = f"t{len(controller.said(RankExited))}"
    controller.spawn(spec(name, *argv, **how))  # type: ignore[arg-type]
    found = controller.exited(name).cause
    assert found is not None, controller.log(name)
    return found


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of this very process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# ---------------------------------------------------------------------- ports


def test_f20_the_owner_of_a_port_is_named(controller: FakeController, listener: int) -> None:
    code = f"import socket; socket.create_server(('127.0.0.1', {listener}))"
    found = cause(controller, sys.executable, "-c", code)
    assert found.word == "port_in_use"
    assert f"port {listener} was in use by process {os.getpid()} (" in found.text
    assert "Address already in use" in found.line
    assert found.line_number == controller.log("t0").splitlines().index(found.line) + 1


def test_a_server_of_the_same_run_is_named_by_its_attempt(controller: FakeController) -> None:
    controller.spawn(spec("server", sys.executable, "-c", SERVER))
    controller.started("server")
    controller.until(lambda: controller.log("server").endswith("\n"), "the port")
    port = int(controller.log("server"))
    found = cause(controller, sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
    assert f"port {port} was in use by task server#1 of this run, process " in found.text


def test_ux_6_the_port_of_a_probe_is_a_guess_where_no_line_names_it(
    controller: FakeController, listener: int
) -> None:
    probe = Probe(kind="readiness", checks=(TcpCheck(port=listener),))
    script = "echo 'bind: Address already in use'; exit 1"
    said = cause(controller, "sh", "-c", script, probes=(probe,)).text
    assert said.startswith(
        f"an address was in use; the log does not say which (its probe asks for port {listener}, which process "
    )
    assert cause(controller, "sh", "-c", script).text == "an address that it wanted is in use"


def test_a_port_that_is_free_has_no_owner(listener: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert owner_of_port(port, "m") is None
    assert str(os.getpid()) in (owner_of_port(listener, "m") or "")


def test_possible_keys_are_not_shown(tmp_path: Path) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", SERVER.replace("; ", "\n"), "serve", "--api-key", "secret"),
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        owner = owner_of_port(int(server.stdout.readline()), "m")
        server.kill()
    assert owner is not None
    assert "secret" not in owner
    assert "\n" not in owner, "the program has several lines"


# ---------------------------------------------------------------------- programs


def test_an_exception_is_the_line(controller: FakeController) -> None:
    found = cause(controller, sys.executable, "-c", "print('hi', flush=True); {}['x']")
    assert (found.word, found.text, found.line) == ("traceback", "KeyError: 'x'", "KeyError: 'x'")


def test_a_program_that_a_script_cannot_start(controller: FakeController) -> None:
    found = cause(controller, "bash", "-c", "nosuchprogram --x")
    assert found.word == "launch"
    assert "nosuchprogram: command not found" in found.text


def test_a_crash_inside_a_script(controller: FakeController) -> None:
    found = cause(controller, "bash", "-c", "bash -c 'kill -SEGV $$'; exit $?")
    assert (found.word, found.text) == ("signal", "a program in it was probably killed by SIGSEGV")


def test_a_line_far_from_both_ends_of_a_log_is_not_looked_for(controller: FakeController) -> None:
    filler = "head -c 400000 /dev/zero | tr '\\0' '\\n'"
    script = f"{filler}; echo 'No space left on device'; {filler}; exit 3"
    controller.spawn(spec("far", "bash", "-c", script))
    assert controller.exited("far").cause is None
    found = cause(controller, "bash", "-c", f"{filler}; {filler}; echo 'No space left on device'; exit 3")
    assert (found.word, found.line_number, found.offset) == ("disk_full", 800_001, 800_000)


def test_a_full_disk(controller: FakeController, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=9", "none", str(disk)),
        capture_output=True,
        check=False,
    )
    if mount.returncode != 0:
        pytest.skip("only root may mount")
    try:
        found = cause(controller, "dd", "if=/dev/zero", f"of={disk}/x", "bs=1k", "count=1000")
        assert found.word == "disk_full"
        assert "No space left on device" in found.line
        (controller.directory / "full").symlink_to(disk)
        with contextlib.suppress(OSError):  # until there is no room for another name
            for number in range(1000):
                (disk / f"y{number}").mkdir()
        full = msgspec.structs.replace(spec("late", "true"), log="full/late/late.log")
        controller.spawn(full)
        controller.until(lambda: controller.said(LaunchFailed), "the failure")
        (failure,) = controller.said(LaunchFailed)
        assert (failure.rank, failure.errno) == (rank_id("late"), 28)
        assert "its log full/late/late.log cannot be made" in failure.reason
    finally:
        subprocess.run(("umount", str(disk)), check=True)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"#!/no/such/interpreter\n", 0o755, 'that does not exist: "/no/such/interpreter"'),
        (b"#!/bin/sh\r\necho\r\n", 0o755, "dos2unix"),
        (b"\x7fELFgarbage", 0o755, "not a program for this machine"),
        (b"#!/bin/sh\n", 0o644, "is not executable"),
        (None, 0, "does not exist on this node"),
    ],
)
def test_a_program_that_cannot_start_reports_its_cause(
    controller: FakeController, tmp_path: Path, content: bytes | None, mode: int, said: str
) -> None:
    program = tmp_path / "program"
    if content is not None:
        program.write_bytes(content)
        program.chmod(mode)
    controller.spawn(spec("a", str(program)))
    controller.until(lambda: controller.said(LaunchFailed), "the failure")
    assert said in controller.said(LaunchFailed)[0].reason


def test_a_wrong_directory_and_too_long_a_command(controller: FakeController) -> None:
    controller.spawn(spec("a", "true", cwd="/no/such"), spec("b", "echo", "x" * 200_000))
    controller.until(lambda: len(controller.said(LaunchFailed)) == 2, "both failures")
    reasons = {fact.rank.attempt.task: fact.reason for fact in controller.said(LaunchFailed)}
    assert reasons["a"] == "working directory /no/such: No such file or directory"
    assert "too large" in reasons["b"]


def test_signatures_of_a_workflow_come_with_the_welcome(make_controller: Make) -> None:
    controller = make_controller()
    own = Signature(name="l", reason="license", pattern="no seat for (?P<who>[a-z]+)", text="{who} waits")
    order = controller.order

    def with_signatures(*messages: object) -> None:
        changed = (
            msgspec.structs.replace(one, signatures=(own,)) if isinstance(one, Welcome) else one
            for one in messages
        )
        order(*changed)  # type: ignore[arg-type]

    controller.order = with_signatures  # type: ignore[method-assign]
    controller.start().welcome()
    found = cause(controller, "sh", "-c", "echo no seat for ann; exit 2")
    assert (found.word, found.text) == ("license", "ann waits")


# ---------------------------------------------------------------------- success


def test_success_is_judged_before_the_exit_is_reported(controller: FakeController, tmp_path: Path) -> None:
    success = Success(
        files=(RequiredFile(path=f"{tmp_path}/*.bin"),),
        json=(RequiredJson(path=f"{tmp_path}/r.json", where="rate > 1"),),
        forbid=("ERROR",),
    )

    def judged(name: str, script: str) -> str | None:
        controller.spawn(msgspec.structs.replace(spec(name, "sh", "-c", script), success=success))
        exit = controller.exited(name)
        assert exit.exit_code == 0
        return None if exit.cause is None else exit.cause.text

    assert judged("none", "true") == f"no file matches {tmp_path}/*.bin, which it must write"
    (tmp_path / "x.bin").write_bytes(b"1")
    assert judged("json", "true") == f"there is no {tmp_path}/r.json, which it must write"
    write = f"echo '{{\"rate\": 2}}' > {tmp_path}/r.json"
    assert judged("log", f"{write}; echo ERROR 7") == "its log has a line that `ERROR` forbids: ERROR 7"
    assert judged("good", f"{write}; echo Traceback") is None


def test_a_pipe_instead_of_a_document_is_not_waited_for(controller: FakeController, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.json")
    success = Success(json=(RequiredJson(path=f"{tmp_path}/r.json", where="a"),))
    controller.spawn(msgspec.structs.replace(spec("a", "true"), success=success))
    found = controller.exited("a").cause
    assert found is not None
    assert "is not a JSON document" in found.text


# ---------------------------------------------------------------------- memory


def counters(tmp_path: Path, kind: str) -> tuple[MemoryEvents, Path]:
    """A cgroup that a test can count in."""
    name = "memory.events" if kind == "v2" else "memory.oom_control"
    directory = tmp_path / ("cg/job" if kind == "v2" else "cg/memory/job")
    directory.mkdir(parents=True)
    file = directory / name
    file.write_text(
        "low 0\noom 0\noom_kill 3\noom_group_kill 0\n" if kind == "v2" else "under_oom 0\noom_kill 3\n"
    )
    (tmp_path / "self").write_text("0::/job\n" if kind == "v2" else "5:cpu:/\n4:memory:/job\n0::/\n")
    return MemoryEvents(str(tmp_path / "cg"), str(tmp_path / "self")), file


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_f43_the_counter_of_a_cgroup_is_read(tmp_path: Path, kind: str) -> None:
    events, file = counters(tmp_path, kind)
    assert events.kills() == 3
    file.write_text(file.read_text().replace("oom_kill 3", "oom_kill 5"))
    assert events.kills() == 5
    assert events.limit() == ""
    (file.parent / "memory.max").write_text("max\n")
    (file.parent.parent / "memory.max").write_text(f"{3 << 30}\n")
    assert events.limit() == "3.0 GiB"


def test_where_nothing_counts_nothing_was_killed(tmp_path: Path) -> None:
    events = MemoryEvents(str(tmp_path), str(tmp_path / "none"))
    assert (events.kills(), events.limit()) == (0, "")


def test_the_kernels_log_names_the_killed_process(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    text = "Memory cgroup out of memory: Killed process 4123 (python3) total-vm:1kB"
    log.write_text(f"3,811,5000000,-;{text}\n")
    assert kernel_killed(4123, 4.0, str(log))
    assert not kernel_killed(412, 4.0, str(log))
    assert not kernel_killed(4123, 60.0, str(log))  # the number was somebody else's then
    assert not kernel_killed(4123, 4.0, str(tmp_path / "none"))


# ---------------------------------------------------------------------- what it costs


def test_good_ends_are_not_looked_into(controller: FakeController) -> None:
    def threads() -> int:
        return len(list(Path(f"/proc/{controller.agent}/task").iterdir()))

    before = threads()
    names = [f"t{number}" for number in range(100)]
    controller.spawn(*(spec(name, "true") for name in names))
    assert {controller.exited(name).exit_code for name in names} == {0}
    assert threads() == before
    cause(controller, "sh", "-c", "echo No space left on device; exit 1")
    assert before <= threads() <= before + 2

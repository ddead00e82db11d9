"""The listeners that a connection reaches, the kernel's answers, and owners of sockets of hidden processes."""

import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from protocol.ids import AttemptId, ProbeKey, RankId
from protocol.messages.checks import Owner
from sflow_agent.probes import socket_owner, sockets
from sflow_agent.probes.port_watch import ELSEWHERE_EVERY_S, PortWatch
from sflow_agent.probes.socket_owner import UNKNOWN_OWNER, OwnerScope, SocketOwners
from sflow_agent.probes.sockets import Listener, addresses_of, listening_sockets, reached, read_dump

V4, LOOP, OTHER = bytes((10, 0, 0, 5)), bytes((127, 0, 0, 1)), bytes((10, 0, 0, 6))
V6 = socket.inet_pton(socket.AF_INET6, "fd00::5")
RANK = RankId(AttemptId("a", 1), 0)
KEY = ProbeKey("readiness", 0)
MAIN = 4_000_000
"""Not the number of a process."""


def one(address: bytes, inode: int = 1, *, v6_only: bool = False, port: int = 80, uid: int = 0) -> Listener:
    return Listener(port, address, inode, uid, v6_only)


ANY4, ANY6, ONLY6 = one(bytes(4)), one(bytes(16), 2), one(bytes(16), 3, v6_only=True)


@pytest.mark.parametrize(
    ("listener", "address", "is_reached"),
    [
        (ANY4, V4, True),
        (ANY4, LOOP, True),
        (ANY4, V6, False),
        (ANY6, V4, True),
        (ANY6, V6, True),
        (ONLY6, V4, False),
        (ONLY6, V6, True),
        (one(LOOP), V4, False),
        (one(V4), LOOP, False),
        (one(V4), V4, True),
        (one(OTHER), V4, False),
        (one(V6), V6, True),
        (one(V6), V4, False),
    ],
)
def test_public_11_a_connection_reaches_a_listener_by_its_address(
    listener: Listener, address: bytes, is_reached: bool
) -> None:
    assert reached((listener,), (address,)) == ((listener,) if is_reached else ())
    assert reached((listener,), None) == (listener,)


def test_public_11_the_listener_at_the_address_is_reached_before_one_at_all_of_them() -> None:
    exact = one(V4, 9)
    assert reached((ANY4, ANY6, exact), (V4,)) == (exact,)
    assert reached((ANY6, ANY4), (V4,)) == (ANY4,)
    assert set(reached((ANY4, one(V6, 9)), (V4, V6))) == {ANY4, one(V6, 9)}


def test_hosts_are_addresses_of_this_node() -> None:
    assert addresses_of(None) is addresses_of("0.0.0.0") is addresses_of("::") is None
    assert addresses_of("127.0.0.1") == addresses_of("::ffff:127.0.0.1") == (LOOP,)
    assert addresses_of("localhost") == (LOOP, bytes(15) + b"\x01")
    assert addresses_of("fd00::5%eth0") == (V6,)
    own = addresses_of(socket.gethostname())
    assert own
    assert all(len(address) in (4, 16) for address in own)


# ---------------------------------------------------------------------- the kernel's lists


@pytest.fixture
def servers() -> Iterator[dict[str, int]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both,
        socket.create_server(("::", 0), family=socket.AF_INET6) as six,
    ):
        yield {name: made.getsockname()[1] for name, made in (("four", four), ("both", both), ("six", six))}


def test_sockets_have_addresses_users_and_their_family(servers: dict[str, int]) -> None:
    found = listening_sockets()
    (four,), (both,), (six,) = (found[servers[name]] for name in ("four", "both", "six"))
    assert (four.address, four.uid, four.place) == (LOOP, os.getuid(), f"127.0.0.1:{servers['four']}")
    assert (both.is_wildcard, both.is_v6_only, both.place) == (True, False, str(servers["both"]))
    assert (six.is_wildcard, six.is_v6_only) == (True, True)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM, errno.EOPNOTSUPP])
def test_public_25_a_kernel_without_tcp_diag_is_read_by_file(
    servers: dict[str, int], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    expected = listening_sockets()

    def refused(_family: int) -> list[Listener]:
        read_dump(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -number), [])
        raise AssertionError("an error is not the end of a list")

    monkeypatch.setattr(sockets, "_by_netlink", refused)
    found = listening_sockets()
    for name in ("four", "both"):
        assert found[servers[name]] == expected[servers[name]]
    assert found[servers["six"]][0].inode == expected[servers["six"]][0].inode


def test_an_acknowledgement_ends_a_dump() -> None:
    assert read_dump(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, 0), [])
    assert read_dump(struct.pack("=IHHII", 16, 3, 0, 1, 0), [])


# ---------------------------------------------------------------------- whose they are


class Node:
    """Processes as /proc shows them: their sockets, or None for what may not be looked into."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sockets: dict[int, set[int] | None] = {MAIN: set()}
        self.users: dict[int, set[int]] = {}
        self.parents: dict[int, int] = {}
        self.below: list[int] = []
        self.listeners: dict[int, tuple[Listener, ...]] = {}
        monkeypatch.setattr(socket_owner, "descendants", lambda pid: self.below if pid == MAIN else [])
        monkeypatch.setattr(
            socket_owner, "has_socket", lambda pid, inodes: bool(inodes & (self.sockets.get(pid) or set()))
        )
        monkeypatch.setattr(socket_owner, "sockets_of", lambda pid: self.sockets.get(pid, set()))
        monkeypatch.setattr(socket_owner, "users_of", lambda pid: self.users.get(pid, {0}))
        monkeypatch.setattr(socket_owner, "environment", lambda _: [])
        monkeypatch.setattr(socket_owner, "session_of", lambda _: 0)
        monkeypatch.setattr(socket_owner, "parent_of", lambda pid: self.parents.get(pid, 0))
        monkeypatch.setattr(
            socket_owner,
            "holder_of",
            lambda inodes: next((pid for pid, held in self.sockets.items() if held and held & inodes), None),
        )
        monkeypatch.setattr(socket_owner, "listening_sockets", lambda: self.listeners)
        self.owners = SocketOwners("m")

    mains: Mapping[int, RankId] = {MAIN: RANK}

    def verdict(self, listener: Listener, owner: Owner = "task", *, is_step: bool = False) -> str:
        scope = OwnerScope(RANK, owner, is_step=is_step)
        return SocketOwners("m").judge(scope, (listener,), self.mains).verdict


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(monkeypatch)


def test_public_10_a_server_that_cannot_be_looked_into_counts_with_a_doubt(node: Node) -> None:
    node.below = [5]
    node.sockets[5] = None
    assert node.verdict(one(V4)) == "unknown"
    judgement = node.owners.judge(OwnerScope(RANK, "task"), (one(V4),), node.mains)
    assert judgement.counts
    assert judgement.text == UNKNOWN_OWNER
    node.users[5] = {1000, 998}  # sudo or setuid: the socket is another user's
    assert node.verdict(one(V4, uid=998)) == "unknown"
    assert node.verdict(one(V4, uid=7)) == "foreign"


def test_public_10_the_main_process_may_be_the_hidden_one(node: Node) -> None:
    node.sockets[MAIN] = None
    assert node.verdict(one(V4)) == "unknown"


def test_a_socket_of_no_process_that_the_task_could_hide_is_foreign(node: Node) -> None:
    assert node.verdict(one(V4)) == "foreign"
    node.sockets[7] = {1}
    assert node.verdict(one(V4)) == "foreign"
    assert node.verdict(one(V4), "any") == "ours"


def test_clusters_f2_a_process_below_a_steps_daemon_is_of_the_run(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.sockets[7], node.parents[7] = {1}, 6
    monkeypatch.setattr(socket_owner, "_is_daemon_of_this_job", lambda pid: pid == 6)
    assert node.verdict(one(V4), is_step=True) == "ours"
    assert node.verdict(one(V4), "run") == "ours"
    assert node.verdict(one(V4)) == "foreign"


@pytest.mark.parametrize(
    ("title", "job", "is_daemon"),
    [
        ("slurmstepd: [12.3]", "12", True),
        ("slurmstepd: [12.extern]", "12", True),
        ("slurmstepd: [13.3]", "12", False),
        ("slurmstepd: [12.3]", "", False),
        ("nginx: master process", "12", False),
    ],
)
def test_clusters_f2_a_steps_daemon_is_known_by_its_title(
    title: str, job: str, is_daemon: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", job)
    argv = [title, "-S", "-c", "print(flush=True); input()"]
    with subprocess.Popen(
        argv, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        is_one = socket_owner._is_daemon_of_this_job(process.pid)
        process.kill()
    assert is_one is is_daemon


# ---------------------------------------------------------------------- what is said of a port


def test_public_20_the_port_that_the_task_does_listen_on_is_named(node: Node) -> None:
    watch = PortWatch(node.owners)
    watch.add(KEY, 9140, OwnerScope(RANK, "task"), 0.0)
    node.below, node.sockets[5] = [5], {1}
    node.listeners = {9141: (one(bytes(4), 1, port=9141),), 9142: (one(bytes(4), 2, port=9142),)}
    assert watch.look(1.0, node.mains) == []
    text = "port 9140 is not listening; the task listens on 9141"
    assert watch.look(ELSEWHERE_EVERY_S, node.mains) == [(RANK, KEY, False, text)]
    assert watch.look(2 * ELSEWHERE_EVERY_S, node.mains) == []


def test_public_11_a_port_at_another_address_is_named(node: Node) -> None:
    watch = PortWatch(node.owners)
    watch.add(KEY, 80, OwnerScope(RANK, "task"), 0.0, "10.0.0.5", (V4,))
    node.sockets[MAIN] = {1}
    node.listeners = {80: (one(LOOP),)}
    text = "port 80 is not listening on 10.0.0.5, only on 127.0.0.1:80"
    assert watch.look(1.0, node.mains) == [(RANK, KEY, False, text)]
    node.listeners = {80: (one(bytes(4)),)}
    assert watch.look(2.0, node.mains) == [(RANK, KEY, True, "port 80 is listening")]


def test_public_10_a_port_of_a_hidden_server_opens_with_a_doubt(node: Node) -> None:
    watch = PortWatch(node.owners)
    watch.add(KEY, 80, OwnerScope(RANK, "task"), 0.0)
    node.sockets[MAIN] = None
    node.listeners = {80: (one(LOOP),)}
    assert watch.look(1.0, node.mains) == [(RANK, KEY, True, f"port 80 is listening, but {UNKNOWN_OWNER}")]

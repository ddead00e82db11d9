"""Readiness of a TCP port on another host: a connection tried every so often, which never blocks the loop."""

import contextlib
import errno
import os
import select
import socket
from dataclasses import dataclass

from protocol.ids import RankId
from protocol.messages import Probe

MIN_INTERVAL_S = 0.05
"""A zero interval would spin."""
MAX_TIMEOUT_S = 5.0
"""A check is repeated anyway, and one that hangs must not hide the port opening. Source: the format, 9.3."""


def is_this_node(host: str) -> bool:
    """True when `host` is this node: its listening sockets tell more than a connection."""
    if host in ("localhost", socket.gethostname()):
        return True
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as trial:
                trial.bind((host, 0))  # only an address of this node can be bound to
                return True
    return False


@dataclass(slots=True)
class Target:
    """What one probe connects to."""

    host: str
    port: int
    interval_s: float
    timeout_s: float
    next_try: float
    trial: socket.socket | None = None
    give_up_at: float = 0.0
    is_open: bool = False


class ConnectWatch:
    """All remote ports that probes look at. Sockets of trials under way are in the loop's epoll."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._targets: dict[tuple[RankId, str], Target] = {}
        self._key_of: dict[int, tuple[RankId, str]] = {}
        self._changes: list[tuple[RankId, str, bool, str]] = []

    def add(self, rank: RankId, probe: Probe, now: float) -> None:
        """Begins to try this probe's `tcp_host` and `tcp_port`."""
        assert probe.tcp_host is not None
        assert probe.tcp_port is not None
        interval_s = max(probe.interval_s, MIN_INTERVAL_S)
        timeout_s = min(max(probe.timeout_s, MIN_INTERVAL_S), MAX_TIMEOUT_S)
        self._targets[rank, probe.kind] = Target(
            probe.tcp_host, probe.tcp_port, interval_s, timeout_s, now + probe.delay_s
        )

    def remove(self, rank: RankId, kind: str) -> None:
        """This probe needs nothing any more."""
        target = self._targets.pop((rank, kind), None)
        if target is not None:
            self._close(target)

    def next_wakeup(self) -> float | None:
        """When `work` has something to do."""
        times = (t.next_try if t.trial is None else t.give_up_at for t in self._targets.values())
        return min(times, default=None)

    def owns(self, descriptor: int) -> bool:
        """True for the descriptor of a trial."""
        return descriptor in self._key_of

    def finished(self, descriptor: int, now: float) -> None:
        """A trial has connected or failed; `work` tells."""
        key = self._key_of[descriptor]
        target = self._targets[key]
        assert target.trial is not None
        error = target.trial.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._conclude(key, target, error, now)

    def work(self, now: float) -> list[tuple[RankId, str, bool, str]]:
        """Begins and ends trials as time goes by; (rank, kind, is open, detail) of what has changed."""
        for key, target in self._targets.items():
            if target.trial is not None and now >= target.give_up_at:
                self._conclude(key, target, errno.ETIMEDOUT, now)
            elif target.trial is None and now >= target.next_try:
                self._begin(key, target, now)
        changes, self._changes = self._changes, []
        return changes

    def _begin(self, key: tuple[RankId, str], target: Target, now: float) -> None:
        target.next_try = now + target.interval_s
        target.give_up_at = now + target.timeout_s
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                target.host, target.port, type=socket.SOCK_STREAM
            )[0]
            target.trial = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            self._conclude(key, target, error.errno or errno.EHOSTUNREACH, now)
            return
        error_number = target.trial.connect_ex(address)
        if error_number != errno.EINPROGRESS:
            self._conclude(key, target, error_number, now)
            return
        self._key_of[target.trial.fileno()] = key
        self._epoll.register(target.trial.fileno(), select.EPOLLOUT)

    def _conclude(self, key: tuple[RankId, str], target: Target, error: int, now: float) -> None:
        self._close(target)
        target.next_try = max(target.next_try, now)
        is_open = error == 0
        if is_open != target.is_open:
            target.is_open = is_open
            where = f"{target.host}:{target.port}"
            detail = f"{where} accepts connections" if is_open else f"{where}: {os.strerror(error)}"
            self._changes.append((*key, is_open, detail))

    def _close(self, target: Target) -> None:
        if target.trial is None:
            return
        if self._key_of.pop(target.trial.fileno(), None) is not None:
            self._epoll.unregister(target.trial.fileno())
        target.trial.close()
        target.trial = None

"""Watches the checks of this node's probes, each by the fastest means.

Ports of this node are watched in the kernel's list, logs as they grow. Other checks are polled (`poller.py`);
if the answer comes from this node, the opening of its port triggers a poll at once.
"""

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, assert_never

from msgspec.structs import replace
from msgspec.structs import replace as replace_fields

from protocol.ids import AttemptId, ProbeKey, RankId
from protocol.messages.checks import Check, ExecCheck, HttpCheck, LogCheck, Owner, Probe, TcpCheck
from protocol.messages.facts import LogSearch
from protocol.messages.rank_spec import RankSpec
from protocol.text.urls import split_url
from sflow_agent.core.events import CheckObserved
from sflow_agent.core.poll_schedule import MIN_INTERVAL_S, PollSchedule
from sflow_agent.core.probes import find_check
from sflow_agent.descriptors import Descriptors
from sflow_agent.logs.follower import LogFollower
from sflow_agent.probes.checks.check import ActiveCheck, Done
from sflow_agent.probes.poller import ProbePoller
from sflow_agent.probes.port_watch import PortWatch, elsewhere_in
from sflow_agent.probes.socket_owner import UNKNOWN_OWNER, OwnerScope, SocketOwners
from sflow_agent.probes.sockets import addresses_of, reached
from sflow_agent.processes.table import Processes
from sflow_agent.worker import Workers

if TYPE_CHECKING:
    from sflow_agent.probes.checks.http import HttpTools

SOCKET_REST_S, PROGRAM_REST_S = 0.005, 0.05
"""The shortest rest between two eager checks: a program costs the task's node something each time."""
MAX_CONNECT_S = 5.0
"""A connection is tried again anyway, and a hanging one must not hide the port's opening.

Source: the format, 9.3.
"""


class _Guard(NamedTuple):
    """The port that answers a URL of this node, and the processes whose answers count."""

    port: int
    addresses: tuple[bytes, ...] | None
    scope: OwnerScope


class ProbeWatcher:
    """Watches the checks of all probes.

    `log_path` is where a log of the run is on this node, `has_all_logs` whether those of other nodes are
    there too; `report` reports to the controller, `warn` warns the user.
    """

    def __init__(
        self,
        descriptors: Descriptors,
        workers: Workers,
        processes: Processes,
        logs: LogFollower,
        log_path: Callable[[str], str],
        marker: str,
        *,
        has_all_logs: bool,
        report: Callable[[LogSearch], None],
        warn: Callable[[str], None],
    ) -> None:
        self.descriptors = descriptors
        self._workers = workers
        self._processes = processes
        self._logs = logs
        self._log_path = log_path
        self._has_all_logs = has_all_logs
        self._report = report
        self._warn = warn
        self._owners = SocketOwners(marker)
        self._ports = PortWatch(self._owners)
        self._polls = ProbePoller()
        self._tools: HttpTools | None = None
        self._guarded: dict[tuple[RankId, ProbeKey], _Guard] = {}
        """Guards of URLs of this node."""
        self._elsewhere: dict[tuple[RankId, ProbeKey], str] = {}
        """Of URLs of this node whose port is closed: where the task does listen, as a part of a detail."""
        self._asked: dict[tuple[RankId, ProbeKey], LogSearch] = {}
        """Searches that only the controller can make."""

    def watch(self, spec: RankSpec, key: ProbeKey, now: float) -> None:
        """Start to watch one check of a rank that has a process."""
        probe, check = find_check(spec.probes, key)
        match check:
            case TcpCheck():
                self._watch_port(spec, key, probe, check, now)
            case LogCheck():
                self._watch_log(spec, key, check, now)
            case HttpCheck():
                self._watch_url(spec, key, probe, check, now)
            case ExecCheck(argv=argv):
                self._poll(spec, key, probe, self._exec(spec, argv), now, rest_s=PROGRAM_REST_S)
            case _:
                assert_never(check)

    def look_once(self, spec: RankSpec, key: ProbeKey, now: float) -> list[CheckObserved]:
        """Make a check of an ended rank a last time; return its result if it is known at once, else `poll` does."""
        probe, check = find_check(spec.probes, key)
        match check:
            case LogCheck():
                is_searched = self._logs.look_last(spec.rank, key)
                return [] if is_searched else [CheckObserved(spec.rank, key, False, "")]
            case TcpCheck(host=host) if host is None or is_this_node(host):
                try:
                    is_open, detail = self._ports.look_once(spec.rank, key, now, self._processes.mains)
                except OSError as error:
                    is_open, detail = False, f"listening sockets cannot be read: {error.strerror}"
                return [CheckObserved(spec.rank, key, is_open, detail)]
            case _:
                self._ports.remove(spec.rank, key)
                self._polls.remove((spec.rank, key))
                self._poll(spec, key, replace_fields(probe, delay_s=0.0), self._new_check(spec, check), now)
                return []

    def has_listener(self, spec: RankSpec) -> bool:
        """Return whether a process of the rank listens on a TCP port now."""
        try:
            return bool(
                self._owners.ports_of(_scope(spec, "task"), self._owners.look(), self._processes.mains)
            )
        except OSError:
            return False  # no descriptors or memory left: the next look may have them

    def unwatch(self, rank: RankId, key: ProbeKey) -> None:
        """Stop watching a check."""
        self._ports.remove(rank, key)
        self._polls.remove((rank, key))
        self._logs.unsearch(rank, key)
        self._guarded.pop((rank, key), None)
        self._elsewhere.pop((rank, key), None)
        asked = self._asked.pop((rank, key), None)
        if asked is not None:
            self._report(replace_fields(asked, pattern=None))

    def ask_again(self) -> None:
        """Repeat the questions to the controller in a new session, since one or its answer may be lost."""
        for asked in self._asked.values():
            self._report(asked)

    def next_wakeup(self) -> float | None:
        """Return when `seen` is due."""
        ports, polls = self._ports.next_wakeup(), self._polls.next_wakeup()
        if ports is None or polls is None:
            return polls if ports is None else ports
        return min(ports, polls)

    def seen(self, now: float) -> list[CheckObserved]:
        """Return the changes and results, except those of logs."""
        found = []
        for rank, key, is_open, detail in self._look_at_ports(now):
            if not self._polls.owns((rank, key)):
                found.append(CheckObserved(rank, key, is_open, detail))
                if is_open and UNKNOWN_OWNER in detail:
                    self._warn(f"{rank}: {detail}")
            elif is_open:
                self._elsewhere.pop((rank, key), None)
                self._polls.poll_now((rank, key), now)
            else:
                self._elsewhere[rank, key] = elsewhere_in(detail)
        return found + [self._accepted(seen) for seen in self._polls.work(now)]

    def poll(self, now: float) -> list[CheckObserved]:
        """Return the changes: a source of the loop."""
        return self.seen(now)

    def _accepted(self, seen: CheckObserved) -> CheckObserved:
        """Return the result of a poll, negative if a foreign process gave the positive answer."""
        guard = self._guarded.get((seen.rank, seen.key))
        if guard is None:
            return seen
        if not seen.is_true:
            elsewhere = self._elsewhere.get((seen.rank, seen.key))
            return replace(seen, detail=f"{seen.detail}; {elsewhere}") if elsewhere else seen
        try:
            listeners = reached(self._owners.look().get(guard.port, ()), guard.addresses)
        except OSError as error:
            return replace(seen, is_true=False, detail=f"listening sockets cannot be read: {error.strerror}")
        # No socket listens where the kernel's own rules redirect the request: then its owner cannot be known.
        judgement = self._owners.judge(guard.scope, listeners, self._processes.mains)
        if judgement.verdict == "unknown":
            self._warn(f"{seen.rank}: {seen.detail}, but {judgement.text}")
        if judgement.counts:
            return seen
        return replace(
            seen, is_true=False, detail=f"it was answered on port {guard.port} by {judgement.text}"
        )

    def _look_at_ports(self, now: float) -> list[tuple[RankId, ProbeKey, bool, str]]:
        try:
            return self._ports.look(now, self._processes.mains)
        except OSError as error:  # no descriptors or memory left: the next look may have them
            self._warn(f"listening sockets cannot be read: {error.strerror}")
            return []

    # ------------------------------------------------------------------ one kind each

    def _watch_port(self, spec: RankSpec, key: ProbeKey, probe: Probe, check: TcpCheck, now: float) -> None:
        if check.host is None or is_this_node(check.host):
            addresses = addresses_of(check.host)
            self._ports.add(key, check.port, _scope(spec, check.owner), now, check.host, addresses)
            return
        self._poll(spec, key, probe, self._connect(check.host, check.port), now, limit_s=MAX_CONNECT_S)

    def _watch_log(self, spec: RankSpec, key: ProbeKey, check: LogCheck, now: float) -> None:
        other = check.task
        if other is None:
            self._logs.search(spec.rank, key, spec.rank, self._log_path(spec.log), check.pattern)
            return
        if not self._has_all_logs:
            asked = LogSearch(rank=spec.rank, key=key, task=other, pattern=check.pattern)
            self._asked[spec.rank, key] = asked
            self._report(asked)
            return
        watched = RankId(AttemptId(other, 0), 0)  # no attempt has this number: any of them
        path = self._log_path(f"{other}/{other}.log")
        self._logs.search_foreign(spec.rank, key, watched, path, check.pattern, now)

    def _watch_url(self, spec: RankSpec, key: ProbeKey, probe: Probe, check: HttpCheck, now: float) -> None:
        parts = split_url(check.url)
        is_here = is_this_node(parts.host)
        has_sign = probe.kind == "readiness" and is_here
        if is_here:
            guard = _Guard(parts.port, addresses_of(parts.host), _scope(spec, check.owner))
            self._guarded[spec.rank, key] = guard
            if has_sign:
                self._ports.add(key, guard.port, guard.scope, now, parts.host, guard.addresses)
        self._poll(spec, key, probe, self._ask(check), now, has_sign=has_sign)

    def _poll(
        self,
        spec: RankSpec,
        key: ProbeKey,
        probe: Probe,
        new_check: Callable[[Done], ActiveCheck],
        now: float,
        *,
        rest_s: float = SOCKET_REST_S,
        limit_s: float | None = None,
        has_sign: bool = False,
    ) -> None:
        due = now + probe.delay_s
        is_eager = probe.kind == "readiness" and not has_sign
        schedule = PollSchedule(probe.interval_s, rest_s, due, eager_since=due if is_eager else None)
        timeout_s = probe.timeout_s if limit_s is None else min(max(probe.timeout_s, MIN_INTERVAL_S), limit_s)
        self._polls.add((spec.rank, key), schedule, timeout_s, new_check)

    # ------------------------------------------------------------------ checks, imported when there is one

    def _connect(self, host: str, port: int) -> Callable[[Done], ActiveCheck]:
        from sflow_agent.probes.checks.tcp import ActiveTcpCheck

        tools = self._shared_tools()
        return lambda done: ActiveTcpCheck(host, port, tools.resolver, self.descriptors, done)

    def _ask(self, check: HttpCheck) -> Callable[[Done], ActiveCheck]:
        from sflow_agent.probes.checks.http import ActiveHttpCheck

        tools = self._shared_tools()
        return lambda done: ActiveHttpCheck(check, tools, done)

    def _exec(self, spec: RankSpec, argv: tuple[str, ...]) -> Callable[[Done], ActiveCheck]:
        from sflow_agent.probes.checks.exec import ActiveExecCheck

        return lambda done: ActiveExecCheck(argv, spec, self._processes, self.descriptors, done)

    def _new_check(self, spec: RankSpec, check: Check) -> Callable[[Done], ActiveCheck]:
        """Return what makes a check that polls."""
        match check:
            case TcpCheck(host=str() as host, port=port):
                return self._connect(host, port)
            case HttpCheck():
                return self._ask(check)
            case ExecCheck(argv=argv):
                return self._exec(spec, argv)
            case _:
                raise AssertionError(check)

    def _shared_tools(self) -> "HttpTools":
        if self._tools is None:
            from sflow_agent.probes.checks.http import HttpTools
            from sflow_agent.probes.http.connect import Resolver

            self._tools = HttpTools(self.descriptors, self._workers, Resolver(self._workers))
        return self._tools


def _scope(spec: RankSpec, owner: Owner) -> OwnerScope:
    is_in_container, is_step = spec.container is not None, spec.launch_kind == "step"
    return OwnerScope(spec.rank, owner, is_in_container, is_step)


def is_this_node(host: str) -> bool:
    """Return whether `host` is this node: its listening sockets show more than a connection."""
    if host in ("localhost", socket.gethostname()):
        return True
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as candidate:
                candidate.bind((host, 0))  # only an address of this node can be bound to
                return True
    return False

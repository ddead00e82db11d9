"""Tests connections between this node and the others: a listener that identifies itself, and connections to others'.

An address alone proves nothing: every node has its own 172.17.0.1, and two may have been given the same one
by mistake. So a listener sends its node and a text unique to the examination, and only that counts as
reached.
"""

import errno
import os
import select
import socket
import time
from collections.abc import Sequence

from msgspec import Struct

from protocol.messages.inspection import MeshResult, MeshTarget
from sflow_agent.descriptors import Descriptors

_BACKLOG = 1024
_MOST_BYTES = 256


def _greeting(token: str, node: int) -> bytes:
    return f"sflow {token} node {node}\n".encode()


class MeshListener:
    """Sends this node's name to every connection; reads nothing."""

    def __init__(self, descriptors: Descriptors, token: str, node: int, is_local: bool) -> None:
        """Listens on all addresses, or only on the loopback's. Raises: OSError."""
        self._greeting = _greeting(token, node)
        self._socket = _listen(is_local)
        self.port = int(self._socket.getsockname()[1])
        descriptors.add(self._socket.fileno(), select.EPOLLIN, self._greet)

    def _greet(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:  # no connection waits any more, or it has gone again
                return
            with caller:
                caller.setblocking(False)
                try:
                    caller.send(self._greeting)
                except OSError:
                    continue


def _listen(is_local: bool) -> socket.socket:
    if is_local:
        made = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    else:
        try:
            made = socket.create_server(
                ("", 0), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        except (OSError, ValueError):  # a kernel without IPv6
            made = socket.create_server(("", 0), backlog=_BACKLOG)
    made.setblocking(False)
    return made


class _Call(Struct):
    """One running connection attempt."""

    target: MeshTarget
    socket: socket.socket
    began: float
    connect_s: float | None = None
    heard: bytes = b""


def reach(targets: Sequence[MeshTarget], token: str, within_s: float) -> tuple[MeshResult, ...]:
    """Connect to all at once; return the results when all are known, at the latest after `within_s`."""
    results: list[MeshResult] = []
    calls: dict[int, _Call] = {}
    epoll = select.epoll()
    try:
        for target in targets:
            call = _begin(target, results)
            if call is not None:
                calls[call.socket.fileno()] = call
                epoll.register(call.socket.fileno(), select.EPOLLOUT)
        deadline = time.monotonic() + within_s
        while calls and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in epoll.poll(left):
                result = _go_on(calls[descriptor], epoll, token)
                if result is not None:
                    epoll.unregister(descriptor)
                    calls.pop(descriptor).socket.close()
                    results.append(result)
        results += [_failed(call.target, f"no answer within {within_s:g} s") for call in calls.values()]
    finally:
        for call in calls.values():
            call.socket.close()
        epoll.close()
    return tuple(results)


def _begin(target: MeshTarget, results: list[MeshResult]) -> _Call | None:
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    try:
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        results.append(_failed(target, _reason(error.errno or 0)))
        return None
    began = time.monotonic()
    try:
        number = made.connect_ex((target.address, target.port))
    except OSError as error:
        number = error.errno or 0
    if number not in (0, errno.EINPROGRESS):
        made.close()
        results.append(_failed(target, _reason(number)))
        return None
    return _Call(target, made, began)


def _go_on(call: _Call, epoll: select.epoll, token: str) -> MeshResult | None:
    """Continue a connection; return its result once there is one."""
    if call.connect_s is None:
        number = call.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            return _failed(call.target, _reason(number))
        call.connect_s = time.monotonic() - call.began
        epoll.modify(call.socket.fileno(), select.EPOLLIN)
        return None
    try:
        data = call.socket.recv(_MOST_BYTES)
    except BlockingIOError:
        return None
    except OSError as error:
        return _failed(call.target, _reason(error.errno or 0))
    call.heard += data
    if data and b"\n" not in call.heard and len(call.heard) < _MOST_BYTES:
        return None
    if call.heard != _greeting(token, call.target.node):
        return _failed(call.target, "another host or program answers there")
    target = call.target
    return MeshResult(
        node=target.node,
        interface=target.interface,
        address=target.address,
        is_primary=target.is_primary,
        connect_s=call.connect_s,
    )


def _failed(target: MeshTarget, problem: str) -> MeshResult:
    return MeshResult(
        node=target.node,
        interface=target.interface,
        address=target.address,
        is_primary=target.is_primary,
        problem=problem,
    )


def _reason(number: int) -> str:
    return os.strerror(number).lower()

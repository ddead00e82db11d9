"""Delays packets that iptables hands over (`-j NFQUEUE`), each by the same time: a link that is long, and loses nothing.

Used by chaos, where the kernel may have no netem; runs as `python -m tests.delaying_link QUEUE SECONDS` in the network's
namespace, as root there. Source: Linux, include/uapi/linux/netfilter/nfnetlink_queue.h.
"""

import collections
import contextlib
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

_NETLINK_NETFILTER, _QUEUE = 12, 3
_PACKET, _VERDICT, _CONFIG = (_QUEUE << 8, _QUEUE << 8 | 1, _QUEUE << 8 | 2)
_CONFIG_COMMAND, _CONFIG_PARAMETERS, _CONFIG_LENGTH = 1, 2, 3
_BIND, _COPY_NOTHING, _ACCEPT = 1, 1, 1
_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_MAX_PACKETS = 65536


class DelayedPackets:
    """One queue of packets of the kernel, in the order of their coming."""

    def __init__(self, queue: int, delay_s: float) -> None:
        """Take the queue over. Raises: OSError."""
        self._number, self._delay_s = queue, delay_s
        self._waiting: collections.deque[tuple[float, int]] = collections.deque()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self._socket.bind((0, 0))
        self._send(_CONFIG, _CONFIG_COMMAND, struct.pack(">BBH", _BIND, 0, socket.AF_INET))
        self._send(_CONFIG, _CONFIG_PARAMETERS, struct.pack(">IB", 0, _COPY_NOTHING))
        self._send(_CONFIG, _CONFIG_LENGTH, struct.pack(">I", _MAX_PACKETS))

    def serve(self) -> None:
        """Let each packet go on when its time has come, for ever."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        while True:
            left_s = self._waiting[0][0] - time.monotonic() if self._waiting else 3600.0
            if poller.poll(max(0.0, left_s * 1000)):
                with contextlib.suppress(OSError):  # ENOBUFS: packets were dropped, as on any full link
                    self._take(self._socket.recv(1 << 20))
            self.release(time.monotonic())

    def release(self, now: float) -> None:
        """Let packets go on that were to wait until now."""
        while self._waiting and self._waiting[0][0] <= now:
            _, packet = self._waiting.popleft()
            self._send(_VERDICT, 2, struct.pack(">II", _ACCEPT, packet))

    def _take(self, block: bytes) -> None:
        due = time.monotonic() + self._delay_s
        offset = 0
        while offset + _HEADER.size <= len(block):
            length, kind, *_ = _HEADER.unpack_from(block, offset)
            if kind == _PACKET:
                self._waiting.extend(
                    (due, number) for number in _packets(block[offset + 20 : offset + length])
                )
            offset += max(length + 3 & ~3, _HEADER.size)

    def _send(self, kind: int, attribute: int, value: bytes) -> None:
        body = struct.pack(">BBH", socket.AF_UNSPEC, 0, self._number)
        body += struct.pack("=HH", 4 + len(value), attribute) + value + bytes(-len(value) % 4)
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST, 0, 0) + body)


def _packets(attributes: bytes) -> Iterator[int]:
    """Yield the number of the packet that a message is about."""
    offset = 0
    while offset + 4 <= len(attributes):
        length, kind = struct.unpack_from("=HH", attributes, offset)
        if kind & 0x7FFF == 1:  # its header
            yield struct.unpack_from(">I", attributes, offset + 4)[0]
        offset += max(length + 3 & ~3, 4)


def start_delaying(enter: Sequence[str], queue: int, delay_s: float) -> "subprocess.Popen[bytes]":
    """Start the program, with a command before it that enters its namespace; return when it serves the queue."""
    started = subprocess.Popen(
        [*enter, sys.executable, "-m", "tests.delaying_link", str(queue), f"{delay_s:.3f}"],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == b"ready\n"
    return started


def end_delaying(started: "subprocess.Popen[bytes]") -> None:
    """End the program, once no rule hands it packets any longer."""
    started.terminate()
    started.wait(10)
    assert started.stdout is not None
    started.stdout.close()


def main() -> None:
    """Delay until SIGTERM, then let everything go on that waits."""
    queue, delay = sys.argv[1:]
    packets = DelayedPackets(int(queue), float(delay))

    def end(_number: int, _frame: FrameType | None) -> None:
        packets.release(float("inf"))
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    packets.serve()


if __name__ == "__main__":
    main()

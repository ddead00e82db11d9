"""A check of a URL: connects, sends the request, reads as much of the answer as the verdict needs, follows redirects."""

import select
import socket
from typing import TYPE_CHECKING

from protocol.messages.checks import HttpCheck, Method
from protocol.text.urls import UrlParts, split_url
from sflow_agent.descriptors import Descriptors
from sflow_agent.probes.checks.check import Done
from sflow_agent.probes.http.connect import Connecting, Resolver
from sflow_agent.probes.http.exchange import MAX_REDIRECTS, Answer, BadAnswerError, redirect, request_bytes
from sflow_agent.probes.http.verdict import verdict
from sflow_agent.worker import Workers

if TYPE_CHECKING:
    import ssl

    from sflow_agent.probes.http.tls import TlsContexts, TlsStream

READ_BYTES = 64 * 1024
READS_PER_PASS = 4
"""An answer that never ends must not block the loop."""


class HttpTools:
    """The parts that all http checks of an agent share."""

    def __init__(self, descriptors: Descriptors, background: Workers, resolver: Resolver) -> None:
        self.descriptors = descriptors
        self.resolver = resolver
        self._background = background
        self._contexts: TlsContexts | None = None

    @property
    def contexts(self) -> "TlsContexts":
        """The certificates that https servers are verified with."""
        if self._contexts is None:
            from sflow_agent.probes.http.tls import TlsContexts

            self._contexts = TlsContexts(self._background)
        return self._contexts


class ActiveHttpCheck:
    """One check, with all its redirects."""

    def __init__(self, check: HttpCheck, tools: HttpTools, done: Done) -> None:
        self._check = check
        self._tools = tools
        self._done = done
        self._url, self._method = check.url, check.method
        self._redirects = 0
        self._parts: UrlParts = split_url(check.url)
        self._connecting: Connecting | None = None
        self._stream: socket.socket | TlsStream | None = None
        self._is_shaking_hands = False
        self._unsent = b""
        self._events = 0
        self._answer = Answer()
        self._doing = ""

    @property
    def doing(self) -> str:
        """The sentence about the current step."""
        return self._connecting.doing if self._connecting is not None else self._doing

    def begin(self) -> None:
        """Connect to the server."""
        self._doing = "the trusted certificates were not read"
        self._answer = Answer()
        self._connecting = Connecting(
            self._tools.resolver, self._tools.descriptors, self._connected, self._fail
        )
        self._connecting.begin(self._parts.host, self._parts.port)

    def close(self) -> None:
        """Close the connection."""
        if self._connecting is not None:
            self._connecting.close()
            self._connecting = None
        if self._stream is not None:
            self._tools.descriptors.remove(self._stream.fileno())
            self._stream.close()
            self._stream = None

    # ------------------------------------------------------------------ the connection

    def _connected(self, connection: socket.socket) -> None:
        self._connecting = None
        self._stream = connection
        if self._parts.scheme == "http":
            self._talk()
            return

        def trusted(context: "ssl.SSLContext | OSError") -> None:
            if self._stream is not connection:
                return  # closed meanwhile
            if isinstance(context, OSError):
                self._fail(f"{self._check.ca_file} cannot be used: {context.strerror or context}")
                return
            from sflow_agent.probes.http.tls import TlsStream

            try:
                self._stream = TlsStream(connection, context, self._parts.host)
            except ValueError as error:
                self._fail(f"{self._parts.host_header}: {error}")
                return
            self._is_shaking_hands = True
            self._talk()

        self._tools.contexts.get(self._check.verify, self._check.ca_file, trusted)

    def _talk(self) -> None:
        assert self._stream is not None
        self._unsent = request_bytes(self._check, self._parts, self._method)
        self._doing = f"{self._parts.host_header} accepted the connection but did not answer"
        self._events = select.EPOLLOUT
        self._tools.descriptors.add(self._stream.fileno(), self._events, self._go_on)
        self._go_on()

    def _go_on(self) -> None:
        """Continue as far as possible without waiting."""
        try:
            self._exchange()
        except BlockingIOError:
            self._wait()
        except BadAnswerError as error:
            self._fail(f"{self._parts.host_header}: {error}")
        except OSError as error:
            why = error.strerror or str(error)
            self._fail(f"{self._parts.host_header}: {why.lower() if error.errno else why}")

    def _exchange(self) -> None:
        stream = self._stream
        assert stream is not None
        if self._is_shaking_hands:
            assert not isinstance(stream, socket.socket)
            stream.handshake()
            self._is_shaking_hands = False
        while self._unsent:
            self._unsent = self._unsent[stream.send(self._unsent) :]
        for _ in range(READS_PER_PASS):
            data = stream.recv(READ_BYTES)
            if data:
                self._answer.feed(data)
            else:
                self._answer.end()
            if self._judge():
                return
        self._wait()

    def _wait(self) -> None:
        stream = self._stream
        assert stream is not None
        wants_to_write = bool(self._unsent) if isinstance(stream, socket.socket) else stream.wants_to_write
        events = select.EPOLLOUT if wants_to_write else select.EPOLLIN
        if events != self._events:
            self._events = events
            self._tools.descriptors.change(stream.fileno(), events)

    # ------------------------------------------------------------------ the answer

    def _judge(self) -> bool:
        """Return True when no more of this answer is needed."""
        if self._answer.has_head:
            self._doing = f"HTTP {self._answer.status}, but its body did not end"
            following = redirect(self._check, self._answer, self._url, self._method)
            if following is not None:
                self._follow(*following)
                return True
        outcome = verdict(self._check, self._answer)
        if outcome is None:
            return False
        self.close()
        self._done(*outcome)
        return True

    def _follow(self, url: str, method: Method) -> None:
        self._redirects += 1
        if self._redirects > MAX_REDIRECTS:
            self._fail(f"more than {MAX_REDIRECTS} redirects, the last one to {url[:200]}")
            return
        try:
            self._parts = split_url(url)
        except ValueError as error:
            self._fail(f'HTTP {self._answer.status} leads to "{url[:200]}", which {error}')
            return
        self.close()
        self._url, self._method = url, method
        self.begin()

    def _fail(self, why: str) -> None:
        self.close()
        self._done(False, why)

"""TLS over a socket that does not block. Imported with the first https probe: `ssl` costs 20 ms."""

import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from sflow_agent.worker import Workers

T = TypeVar("T")


class TlsContexts:
    """What is trusted, by (verify, ca_file). Reading certificates takes a while, so it is done in the background."""

    def __init__(self, background: Workers) -> None:
        self._background = background
        self._known: dict[tuple[bool, str | None], ssl.SSLContext] = {}

    def get(
        self, verify: bool, ca_file: str | None, done: Callable[[ssl.SSLContext | OSError], None]
    ) -> None:
        """Calls `done` with a context, at once when there is one."""
        key = (verify, ca_file)
        if key in self._known:
            done(self._known[key])
            return

        def finished(context: ssl.SSLContext | OSError) -> None:
            if not isinstance(context, OSError):  # a file that is not there now may be there the next time
                self._known[key] = context
            done(context)

        self._background.run(("tls", *key), lambda: _context(verify, ca_file), finished)


def _context(verify: bool, ca_file: str | None) -> ssl.SSLContext:
    if verify:
        return ssl.create_default_context(cafile=ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TlsStream:
    """A client's side of a connection, with the calls of a plain socket: BlockingIOError where it has to wait."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._tls = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
        self.wants_to_write = False
        """Whether the last call that could not go on waits for room, and not for bytes."""

    def handshake(self) -> None:
        """Raises: BlockingIOError; OSError when it fails, with what a person can use."""
        try:
            self._wait_as_a_socket(self._tls.do_handshake)
        except ssl.SSLCertVerificationError as error:
            raise OSError(0, f"its certificate is not accepted: {error.verify_message}") from error

    def send(self, data: bytes) -> int:
        """Raises: BlockingIOError, OSError."""
        return self._wait_as_a_socket(lambda: self._tls.send(data))

    def recv(self, size: int) -> bytes:
        """Raises: BlockingIOError, OSError. Empty at the end, also where the server did not say goodbye."""
        try:
            return self._wait_as_a_socket(lambda: self._tls.recv(size))
        except ssl.SSLEOFError:
            return b""

    def fileno(self) -> int:
        """The descriptor."""
        return self._tls.fileno()

    def close(self) -> None:
        """Closes without ceremony."""
        self._tls.close()

    def _wait_as_a_socket(self, call: Callable[[], T]) -> T:
        self.wants_to_write = False
        try:
            return call()
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self.wants_to_write = True
            raise BlockingIOError from None

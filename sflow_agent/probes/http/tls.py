"""TLS over a non-blocking socket. Imported with the first https probe: `ssl` costs 20 ms."""

import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from sflow_agent.worker import Workers

T = TypeVar("T")
_NO_TLS = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
"""What OpenSSL 3 makes of an answer that is not TLS."""


class TlsContexts:
    """Contexts by (verify, ca_file). Reading certificates takes time, so it is done in the background."""

    def __init__(self, background: Workers) -> None:
        self._background = background
        self._known: dict[tuple[bool, str | None], ssl.SSLContext] = {}

    def get(
        self, verify: bool, ca_file: str | None, done: Callable[[ssl.SSLContext | OSError], None]
    ) -> None:
        """Call `done` with a context, at once when there is one."""
        key = (verify, ca_file)
        if key in self._known:
            done(self._known[key])
            return

        def finished(context: ssl.SSLContext | OSError) -> None:
            if not isinstance(context, OSError):  # a missing file may exist the next time
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
        """Whether the last blocked call waits to write rather than to read."""

    def handshake(self) -> None:
        """Continue the handshake. Raises: BlockingIOError; OSError with a readable reason when it fails."""
        try:
            self._wait_as_a_socket(self._tls.do_handshake)
        except ssl.SSLCertVerificationError as error:
            raise OSError(0, f"its certificate is not accepted: {error.verify_message}") from error
        except ssl.SSLError as error:
            why = f"ssl: {(error.reason or str(error)).replace('_', ' ').lower()}"
            if error.reason in _NO_TLS:
                raise OSError(0, f"it does not speak TLS; http:// would ask without ({why})") from error
            raise OSError(0, f"TLS failed ({why})") from error

    def send(self, data: bytes) -> int:
        """Send bytes. Raises: BlockingIOError, OSError."""
        return self._wait_as_a_socket(lambda: self._tls.send(data))

    def recv(self, size: int) -> bytes:
        """Receive bytes; empty at the end, also when the server did not say goodbye.

        Raises: BlockingIOError, OSError.
        """
        try:
            return self._wait_as_a_socket(lambda: self._tls.recv(size))
        except ssl.SSLEOFError:
            return b""

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._tls.fileno()

    def close(self) -> None:
        """Close the socket without a TLS goodbye."""
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

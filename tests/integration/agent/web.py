"""Real servers on loopback that behave well, badly, late, or not at all."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers as its server's `answers` say, by path."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.note(self)
        path = self.path.partition("?")[0]
        answer = self.server.answers.get(path)
        if answer is None:
            self.say(404)
        else:
            answer(self)

    do_POST = do_GET  # noqa: N815 - the base class's name

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        """Return the body of the request."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def log_message(self, format: str, *args: object) -> None:
        """Discard the message."""


class Server(ThreadingHTTPServer):
    """Counts requests by path; `stuck` answers hang until the server is closed."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, answers: dict[str, Answer], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answers = answers
        self.seen: list[tuple[str, str]] = []
        self.closing = threading.Event()

    def note(self, handler: Handler) -> None:
        self.seen.append((handler.command, handler.path))

    def count(self, path: str) -> int:
        return sum(1 for _, seen in self.seen if seen == path)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that give up are part of the tests."""


@contextlib.contextmanager
def serving(
    answers: dict[str, Answer], *, port: int = 0, certificate: Path | None = None
) -> Iterator[Server]:
    """A server in threads of the test. A certificate file with its key makes it https."""
    server = Server(answers, port)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Return the port of a listener that accepts, and then stays silent."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        yield int(listener.getsockname()[1])


def stuck(handler: Handler) -> None:
    """Never answers."""
    handler.server.closing.wait()


def trickle(handler: Handler) -> None:
    """A head that never ends, a header at a time."""
    handler.send_response(200)
    handler.flush_headers()
    while not handler.server.closing.wait(0.05):
        handler.wfile.write(b"X-More: 1\r\n")


def endless(handler: Handler) -> None:
    """A good head, and a body as fast as it is taken."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while not handler.server.closing.is_set():
            handler.wfile.write(b"x" * 65536)

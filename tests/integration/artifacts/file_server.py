"""A web server on loopback that misbehaves on request: refuses, stalls, drops, ignores ranges."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """The answers of one path.

    Each request takes the next of `statuses` and `cuts`; then all requests succeed.
    """

    content: bytes
    version: str | None = "v1"
    """The ETag; None sends none."""
    statuses: list[int] = field(default_factory=list)
    """Answers before the good ones."""
    cuts: list[int] = field(default_factory=list)
    """After so many bytes of the body the connection is dropped."""
    stall_after: int | None = None
    """After so many bytes nothing more is sent until `go_on`."""
    has_ranges: bool = True
    go_on: threading.Event = field(default_factory=threading.Event)
    gate: threading.Barrier | None = None
    """So many requests wait for each other."""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """One request."""

    path: str
    range: str | None
    headers: dict[str, str]


class FileServer:
    """Serves until it is closed."""

    def __init__(self, answer: Callable[["Handler"], None] | None = None) -> None:
        self.pages: dict[str, Page] = {}
        self.seen: list[Seen] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.files = self  # type: ignore[attr-defined]
        self.answer = answer or self._serve
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, path: str, page: Page) -> str:
        """Serves a page; returns its URL."""
        self.pages[path] = page
        return f"{self.url}{path}"

    def ranges(self) -> Sequence[str | None]:
        """Of all requests so far."""
        return [seen.range for seen in self.seen]

    def close(self) -> None:
        """End, and release stalled requests."""
        for page in self.pages.values():
            page.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, request: "Handler") -> None:
        page = self.pages.get(request.path)
        if page is None:
            request.send_error(404)
            return
        if page.gate is not None:
            page.gate.wait(30)
        if page.statuses:
            request.send_response(page.statuses.pop(0))
            for name, value in page.headers.items():
                request.send_header(name, value)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        wanted = request.headers.get("Range")
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and page.has_ranges else 0
        body = page.content[first:]
        request.send_response(206 if wanted and page.has_ranges else 200)
        if wanted and page.has_ranges:
            last = len(page.content) - 1
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(page.content)}")
        if page.version is not None:
            request.send_header("ETag", f'"{page.version}"')
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if page.cuts:
            request.wfile.write(body[: page.cuts.pop(0)])
            request.close_connection = True
        elif page.stall_after is not None and not page.go_on.is_set():
            request.wfile.write(body[: page.stall_after])
            page.go_on.wait(60)
            request.wfile.write(body[page.stall_after :])
        else:
            request.wfile.write(body)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Notes the request, and lets the server answer."""
        server: FileServer = self.server.files  # type: ignore[attr-defined]
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.seen.append(Seen(self.path, self.headers.get("Range"), headers))
        try:
            server.answer(self)
        except OSError:
            self.close_connection = True  # the other side has gone

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_arguments: Any) -> None:
        """Discard the message."""

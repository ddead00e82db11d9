"""Publishes the newest measurements as OpenMetrics: in a file that is replaced, or on a port of the loopback. Off by default.

Called by the recorder's thread.
"""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from protocol.machine.loop_signals import QuietThread
from sflow_ctl.report.telemetry.openmetrics import openmetrics_text
from sflow_ctl.report.telemetry.series import Series
from sflow_ctl.runtime.record.durable import write_for_now
from sflow_ctl.runtime.telemetry.files import NodeFile
from sflow_ctl.runtime.telemetry.reader import NodeRows

WRITE_EVERY_S = 1.0
FORGET_AFTER_MS = 60_000
"""A task that has ended is no longer published, so that a scraper sees its end."""
CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Publisher:
    """The newest row of each series. `target` is a path, or a port."""

    def __init__(self, target: str | int) -> None:
        self._target = Path(target) if isinstance(target, str) else target
        self._series: dict[int, dict[tuple[str, str], Series]] = {}
        self._written_at = float("-inf")
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int | None:
        """Return the port that it listens on; None before the first measurement, and for a file."""
        return None if self._server is None else int(self._server.server_address[1])

    def take(self, node: int, name: str, frames: bytes) -> str:
        """Take the rows of a message; return what is wrong with the publishing, else nothing."""
        rows = NodeRows(NodeFile(node, name, Path()), None, None)
        rows.take(frames, after_ms=None)
        with self._lock:
            known = {**self._series.get(node, {}), **rows.series}
            newest = max((one.times_ms[-1] for one in rows.series.values()), default=0)
            self._series[node] = {
                key: one for key, one in known.items() if newest - one.times_ms[-1] <= FORGET_AFTER_MS
            }
        try:
            self._publish()
        except OSError as error:
            return f"measurements cannot be published at {self._target}: {error.strerror}"
        return ""

    def text(self) -> str:
        """Return what is published."""
        with self._lock:
            return openmetrics_text([one for of in self._series.values() for one in of.values()])

    def close(self) -> None:
        """End: the file keeps the last values, the port is closed."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _publish(self) -> None:
        if isinstance(self._target, Path):
            if time.monotonic() - self._written_at >= WRITE_EVERY_S:
                write_for_now(self._target, self.text().encode(), mode=0o644)
                self._written_at = time.monotonic()
        elif self._server is None:
            self._server = _server(self, self._target)
            QuietThread(self._server.serve_forever, "openmetrics").start()


def _server(publisher: Publisher, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        """Answers with the text, whatever the path is."""

        timeout = 5

        def do_GET(self) -> None:
            content = publisher.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a scraper asks each second."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)

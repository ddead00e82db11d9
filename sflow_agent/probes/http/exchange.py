"""One HTTP/1.1 exchange without its socket: the bytes of a request, and an answer read as its bytes come.

Pure, and meant for short answers: only so much of a head or a body is ever kept. Source: RFC 9112.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import urljoin

from protocol.messages.checks import HttpCheck, Method
from protocol.text.urls import UrlParts

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 1024 * 1024
MAX_REDIRECTS = 10
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_STATUS_LINE = re.compile(r"HTTP/\d\.\d (\d{3})(?: (.*))?$")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_MAX_SIZE_LINE = 4096
_KEEPS_METHOD = frozenset((307, 308))
_DEFAULT_CONTENT_TYPE = "text/plain; charset=utf-8"


class BadAnswerError(Exception):
    """What came is no HTTP answer. The text is for a person."""


def request_bytes(check: HttpCheck, url: UrlParts, method: str) -> bytes:
    """The whole request. A body goes with POST only; headers of the check replace ours."""
    body = (check.body or "").encode() if method == "POST" else b""
    headers = {
        "Host": url.host_header,
        "User-Agent": "sflow-agent",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
    }
    if method == "POST":
        headers |= {"Content-Type": _DEFAULT_CONTENT_TYPE, "Content-Length": str(len(body))}
    given = {name.lower() for name, _ in check.headers}
    lines = [f"{method} {url.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() not in given]
    lines += [
        f"{name}: {value}"
        for name, value in check.headers
        if name.lower() not in ("connection", "content-length")
    ]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def redirect(check: HttpCheck, answer: "Answer", url: str, method: Method) -> tuple[str, Method] | None:
    """(URL, method) to ask next; None when the answer is to be taken as it is."""
    location = answer.header("location")
    if answer.status not in _REDIRECTS or answer.status in check.status or location is None:
        return None
    return urljoin(url, location), method if answer.status in _KEEPS_METHOD else "GET"


@dataclass(slots=True)
class Answer:
    """An answer while it comes in. `feed` takes bytes in any pieces; `end` says that no more will come."""

    status: int = 0
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Names in lower case."""
    body: bytearray = field(default_factory=bytearray)
    has_head: bool = False
    is_complete: bool = False
    is_cut: bool = False
    """The body is longer than is kept, or the connection ended in the middle of it."""
    _pending: bytearray = field(default_factory=bytearray)
    _left: int | None = None
    """Bytes still to come of the body, or of its present chunk; None when that is not known."""
    _is_chunked: bool = False
    _is_between_chunks: bool = False

    @property
    def is_over(self) -> bool:
        """True when more bytes change nothing."""
        return self.is_complete or self.is_cut

    def header(self, name: str) -> str | None:
        """The values of a header, joined; None without it."""
        values = [value for known, value in self.headers if known == name.lower()]
        return ", ".join(values) if values else None

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Raises: BadAnswerError."""
        if self.is_over:
            return
        searched = max(0, len(self._pending) - 3)
        self._pending += data
        while not self.has_head:
            if not self._take_head(searched):
                return
            searched = 0
        if self._is_chunked:
            while not self.is_over and self._take_of_chunk():
                pass
        elif not self.is_over:
            self._take_body()

    def end(self) -> None:
        """The connection has ended. Raises: BadAnswerError when there is not even a head."""
        if not self.has_head:
            raise BadAnswerError("the connection was closed without an answer")
        if not self.is_over:
            self.is_complete = self._left is None and not self._is_chunked
            self.is_cut = not self.is_complete

    def _take_head(self, searched: int) -> bool:
        """True when a head was taken; that of an interim answer (1xx) is not the one."""
        start = bytes(self._pending[:60])
        if not start.startswith(b"HTTP/"[: len(start)]):
            raise BadAnswerError(f"this is no HTTP answer: {start.decode(errors='replace')!r}")
        end = self._pending.find(b"\r\n\r\n", searched)
        if end < 0 or end > MAX_HEAD_BYTES:
            if len(self._pending) > MAX_HEAD_BYTES:
                raise BadAnswerError(f"the head of the answer is longer than {MAX_HEAD_BYTES} bytes")
            return False
        first, *lines = self._pending[:end].decode("latin-1").split("\r\n")
        del self._pending[: end + 4]
        match = _STATUS_LINE.match(first)
        if match is None:
            raise BadAnswerError(f"this is no HTTP answer: {first[:60]!r}")
        self.status, self.reason = int(match[1]), (match[2] or "").strip()
        if 100 <= self.status < 200:
            return True
        pairs = (line.partition(":") for line in lines)
        self.headers = [(name.strip().lower(), value.strip()) for name, colon, value in pairs if colon]
        self._begin_body()
        self.has_head = True
        return True

    def _begin_body(self) -> None:
        length = self.header("content-length")
        if self.status in (204, 304):
            self.is_complete = True
        elif "chunked" in (self.header("transfer-encoding") or "").lower():
            self._is_chunked = True
        elif length is not None:
            if not (length.isascii() and length.isdecimal() and len(length) < 19):
                raise BadAnswerError(f"its Content-Length is {length[:60]!r}")
            self._left = int(length)
            self.is_complete = self._left == 0

    def _take_body(self) -> None:
        count = len(self._pending) if self._left is None else min(self._left, len(self._pending))
        self._keep(count)
        if self._left is not None:
            self._left -= count
            self.is_complete = self._left == 0 and not self.is_cut

    def _take_of_chunk(self) -> bool:
        """One size line, or what is there of a chunk's data; False when more bytes are needed first."""
        if self._left is None:
            end = self._pending.find(b"\n")
            if end < 0 or end > _MAX_SIZE_LINE:
                if len(self._pending) > _MAX_SIZE_LINE:
                    raise BadAnswerError("the size of a chunk cannot be read")
                return False
            line = bytes(self._pending[:end]).strip()
            del self._pending[: end + 1]
            if self._is_between_chunks and not line:
                self._is_between_chunks = False
                return True
            size = line.partition(b";")[0].strip()
            if not _SIZE.fullmatch(size):
                raise BadAnswerError("the size of a chunk cannot be read")
            self._left = int(size, 16)
            if self._left == 0:
                self.is_complete = True  # what may follow are more headers, which nobody asks for
            return True
        if not self._pending:
            return False
        count = min(self._left, len(self._pending))
        self._keep(count)
        self._left -= count
        if self._left == 0:
            self._left, self._is_between_chunks = None, True
        return True

    def _keep(self, count: int) -> None:
        room = MAX_BODY_BYTES - len(self.body)
        self.body += self._pending[: min(count, room)]
        del self._pending[:count]
        self.is_cut = count > room

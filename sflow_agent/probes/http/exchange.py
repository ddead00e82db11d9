"""One HTTP/1.1 exchange without its socket: the bytes of a request, and an answer read as its bytes arrive.

h11 reads the answer; this module bounds it, as only short answers are expected, and accepts what curl does and h11 does not:
bare line feeds around chunks (h11 accepts them in heads), blanks before a colon, lines without headers. Imported with the
first HTTP probe. `checks.http` owns the socket, `verdict` judges.
Source: RFC 9112.
"""

import contextlib
from urllib.parse import urljoin

import h11

from protocol.messages.checks import HttpCheck, Method
from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.urls import UrlParts

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 1024 * 1024
MAX_REDIRECTS = 10
MAX_INTERIM = 20
"""Answers with a status of 1xx that may come before the one that counts."""
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_KEEPS_METHOD = frozenset((307, 308))
_DEFAULT_CONTENT_TYPE = "text/plain; charset=utf-8"
_NOT_GIVEN = ("connection", "content-length", "transfer-encoding")
"""Headers about the framing of the request: a check cannot replace them."""
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
"""An alert or a handshake. Source: RFC 8446, 5.1."""
MAX_SIZE_LINE = 4096
_BLANK_LINE = lazy_pattern(rb"\n\r?\n")
_LINE_END = lazy_pattern(rb"\r?\n")
_NAME = lazy_pattern(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_CONTROLS = lazy_pattern(rb"[\x00-\x08\x0b-\x1f\x7f]")
_SIZE = lazy_pattern(rb"([0-9A-Fa-f]{1,15})\s*(?:;|$)")


class BadAnswerError(Exception):
    """The bytes received are not an HTTP answer. The text is for a person."""


def request_bytes(check: HttpCheck, url: UrlParts, method: Method) -> bytes:
    """Return the whole request. A body goes with POST only; headers of the check replace ours."""
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
    lines += [f"{name}: {value}" for name, value in check.headers if name.lower() not in _NOT_GIVEN]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def redirect(check: HttpCheck, answer: "Answer", url: str, method: Method) -> tuple[str, Method] | None:
    """Return (URL, method) to request next; None when the answer is to be judged as it is."""
    location = answer.header("location")
    if answer.status not in _REDIRECTS or answer.status in check.status or location is None:
        return None
    return urljoin(url, location), method if answer.status in _KEEPS_METHOD else "GET"


class Answer:
    """An answer while it arrives. `feed` takes bytes in any pieces; `end` says that no more will come."""

    def __init__(self) -> None:
        self.status = 0
        self.reason = ""
        self.headers: list[tuple[str, str]] = []
        """Names in lower case."""
        self.body = bytearray()
        self.has_head = False
        self.is_complete = False
        self.is_cut = False
        """The body is longer than the limit, or the connection ended in the middle of it."""
        self._head = bytearray()
        self._interim = 0
        self._chunks: _ChunkLines | None = None
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=2 * MAX_HEAD_BYTES)
        # The caller sends the request; h11 reads an answer only to a request that it knows of.
        self._h11.send(
            h11.Request(method="GET", target="/", headers=[("Host", "n"), ("Connection", "close")])
        )
        self._h11.send(h11.EndOfMessage())

    @property
    def is_over(self) -> bool:
        """Return whether more bytes change nothing."""
        return self.is_complete or self.is_cut

    def header(self, name: str) -> str | None:
        """Return the values of a header, joined; None without it."""
        values = [value for known, value in self.headers if known == name.lower()]
        return ", ".join(values) if values else None

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises: BadAnswerError."""
        searched = max(0, len(self._head) - 2)
        self._head += b"" if self.has_head else data
        while not self.has_head:
            end = self._end_of_head(searched)
            if end is None:
                return
            head, data = bytes(self._head[:end]), bytes(self._head[end:])
            del self._head[:end]
            searched = 0
            self._receive(_tidied(head))
        if not self.is_over:
            data = data if self._chunks is None else self._chunks.feed(data)
            if data:
                self._receive(data)

    def end(self) -> None:
        """Take the end of the connection. Raises: BadAnswerError when there is not even a head."""
        if not self.has_head:
            raise BadAnswerError("the connection was closed without an answer")
        if not self.is_over:
            with contextlib.suppress(BadAnswerError):  # it ends in the middle of the body
                self._receive(b"")
            self.is_cut = not self.is_complete

    def _end_of_head(self, searched: int) -> int | None:
        """Return where the first head in what was received ends, or None. Raises: BadAnswerError."""
        start = bytes(self._head[:60])
        if start[:2] in _TLS_RECORDS:
            raise BadAnswerError("it speaks TLS (https:// would ask that way)")
        if not start.upper().startswith(b"HTTP/"[: len(start)]):
            raise BadAnswerError(f"this is not an HTTP answer: {start.decode(errors='replace')!r}")
        end = _BLANK_LINE.search(self._head, searched)
        if (end.end() if end is not None else len(self._head)) > MAX_HEAD_BYTES:
            raise BadAnswerError(f"the head of its answer is longer than {MAX_HEAD_BYTES} bytes")
        return None if end is None else end.end()

    def _receive(self, data: bytes) -> None:
        """Pass bytes to h11, none at the end of the connection, and process its events."""
        try:
            self._h11.receive_data(data)
            while not self.is_over:
                event = self._h11.next_event()
                if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                    return
                self._take(event)
        except h11.ProtocolError as error:
            where = "body" if self.has_head else "head"
            raise BadAnswerError(f"the {where} of its answer cannot be read: {error}") from error

    def _take(self, event: object) -> None:
        match event:
            case h11.InformationalResponse():
                self._interim += 1
                if self._interim > MAX_INTERIM:
                    raise BadAnswerError(f"more than {MAX_INTERIM} interim answers")
            case h11.Response():
                self.status, self.reason = event.status_code, bytes(event.reason).decode("latin-1").strip()
                self.headers = [
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers
                ]
                self.has_head = True
                if "chunked" in (self.header("transfer-encoding") or "").lower():
                    self._chunks = _ChunkLines()
            case h11.Data(data=data):
                room = MAX_BODY_BYTES - len(self.body)
                self.body += data[:room]
                self.is_cut = len(data) > room
            case h11.EndOfMessage():
                self.is_complete = True
            case _:
                pass  # of h11's own state


def _tidied(head: bytes) -> bytes:
    """Return a head without the small faults that curl overlooks and h11 refuses."""
    first, *lines = _LINE_END.split(head)
    tidied = [first[:5].upper() + first[5:]]
    for line in lines:
        name, colon, value = line.partition(b":")
        is_continued = line[:1] in (b" ", b"\t")
        if line and not is_continued and not (colon and _NAME.fullmatch(name.strip())):
            continue
        tidied.append(_CONTROLS.sub(b" ", line if is_continued else name.strip() + colon + value))
    return b"\r\n".join(tidied)


class _ChunkLines:
    """Rewrites the lines around chunks to end with CR LF, which h11 requires.

    Trailers are dropped: no check uses them. A line that is not a chunk's size is passed on, so that h11
    refuses it.
    """

    def __init__(self) -> None:
        self._line = b""
        self._left = 0
        """Bytes still to come of the present chunk."""
        self._ends_chunk = False
        self._is_over = False

    def feed(self, data: bytes) -> bytes:
        """Return the bytes for h11. A possible beginning of a line is kept."""
        out = bytearray()
        while data and not self._is_over:
            if self._left:
                out += data[: self._left]
                count = min(self._left, len(data))
                self._left, data = self._left - count, data[count:]
                self._ends_chunk = not self._left
                continue
            line, newline, data = data.partition(b"\n")
            self._line += line
            if not newline:
                if len(self._line) > MAX_SIZE_LINE:
                    out += self._line + b"\r\n"  # h11 refuses it
                break
            out += self._take_line()
        return bytes(out)

    def _take_line(self) -> bytes:
        line, self._line = self._line.strip(), b""
        if self._ends_chunk and not line:
            self._ends_chunk = False
            return b"\r\n"
        size = _SIZE.match(line)
        if size is None:
            return line + b"\r\n"
        self._left = int(size[1], 16)
        self._is_over = not self._left
        return b"0\r\n\r\n" if self._is_over else b"%x\r\n" % self._left

"""Downloads a file from a web server into a partial file, and renames it when it is complete."""

import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.plan.fetches import WebFile
from sflow_ctl.planner.phases.fetches import shown_uri
from sflow_ctl.runtime.artifacts.checksum import has_sum, note_sum, sha256_of
from sflow_ctl.runtime.artifacts.partial_file import PartialFile
from sflow_ctl.runtime.artifacts.transfer import Cut, FetchError, Patience, Progress, TransientFetchError

CHUNK_BYTES = 1024 * 1024
LONGEST_WAIT_S = 60.0
_TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
_ELSEWHERE = "correct the URI, or point elsewhere with --artifact NAME=URI"
_NETWORK = "check the network and the server; the bytes received so far are kept for the next run"
_RANGE = lazy_pattern(r"bytes (?P<first>\d+)-\d+/(?P<total>\d+|\*)$")


class WebTransfer:
    """The transfer of one file."""

    def __init__(self, file: WebFile, patience: Patience) -> None:
        self.progress = Progress(file.artifact, shown_uri(file.uri))
        self._file = file
        self._target = Path(file.path)
        self._patience = patience
        self._part = PartialFile(self._target)
        self._response: http.client.HTTPResponse | None = None

    def run(self, stop: threading.Event) -> None:
        """Return when the file is there, with its checksum. Raises: FetchError, Cut, OSError."""
        if self._target.exists() and self._has_right_sum():
            self.progress.outcome = f"is cached in {self._target}"
            return
        self._target.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        try:
            self._part.take()
            self.progress.resumed_bytes = self.progress.received_bytes = self._part.size
            self._receive_all(stop)
            self._check_sum()
            self._part.finish()
        except OSError:
            self._part.discard()  # a full disk needs the space
            raise
        finally:
            self._part.leave()
        if self._file.sha256 is not None:
            note_sum(self._target, self._file.sha256)
        self.progress.elapsed_s = time.monotonic() - started

    def cut(self) -> None:
        """Shut down the connection, so that a blocked read returns."""
        response = self._response
        if response is not None:
            with (
                contextlib.suppress(OSError, ValueError),
                socket.socket(fileno=os.dup(response.fileno())) as own,
            ):
                own.shutdown(socket.SHUT_RDWR)

    def _has_right_sum(self) -> bool:
        self.progress.note = "checking"
        return self._file.sha256 is None or has_sum(self._target, self._file.sha256)

    def _receive_all(self, stop: threading.Event) -> None:
        failures = 0
        while True:
            before = self._part.size
            try:
                self._receive(stop)
                return
            except TransientFetchError as error:
                failures = 1 if self._part.size > before else failures + 1
                if failures >= self._patience.tries:
                    cause = f"{error.cause} ({failures} tries)" if failures > 1 else error.cause
                    raise FetchError(cause, error.hint) from error
                wait = max(self._patience.first_wait_s * 2 ** (failures - 1), error.wait_s)
                wait = min(wait, LONGEST_WAIT_S)
                self.progress.note = f"again in {wait:g} s, {error.cause}"
                if stop.wait(wait):
                    raise Cut from error

    def _receive(self, stop: threading.Event) -> None:
        """Receive until the connection ends. Raises: FetchError, Cut, OSError of the disk."""
        if self._part.version is None:
            self._part.discard()  # whether the rest belongs to the same file is unknown
        with self._open(self._part.size) as response:
            self._response = response
            if stop.is_set():
                raise Cut
            total = self._position(response)
            self.progress.total_bytes, self.progress.note = total, ""
            self.progress.received_bytes = self._part.size
            while total is None or self._part.size < total:
                data = self._read(response, stop)
                if not data:
                    break
                self._part.write(data)
                self.progress.received_bytes = self._part.size
        self._response = None
        if stop.is_set():
            raise Cut
        if total is not None and self._part.size != total:
            cause = f"the connection ended after {self._part.size} of {total} bytes"
            raise TransientFetchError(cause, _NETWORK)

    def _open(self, offset: int) -> http.client.HTTPResponse:
        try:
            request = Request(_quoted(self._file.uri), headers={"User-Agent": "sflow-ctl"})
            login = _login(self._file.uri)
            if login is not None:
                request.add_unredirected_header("Authorization", login)
            if offset:
                request.add_header("Range", f"bytes={offset}-")
            response = urlopen(request, timeout=self._patience.stall_s)
        except HTTPError as error:
            raise self._refused(error) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise explain(error, self._patience.stall_s, urlsplit(self._file.uri).netloc) from error
        assert isinstance(response, http.client.HTTPResponse)
        return response

    def _position(self, response: http.client.HTTPResponse) -> int | None:
        """Fit the part to the first byte of the response; return the file's whole size, if it is known."""
        version = _version(response.headers)
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            match = _RANGE.match(response.headers.get("Content-Range", ""))
            is_rest = match is not None and int(match["first"]) == self._part.size
            if match is None or not is_rest or version != self._part.version:
                self._part.discard()
                raise TransientFetchError("the file has changed on the server", _NETWORK)
            return None if match["total"] == "*" else int(match["total"])
        self._part.begin(version)
        self.progress.resumed_bytes = 0
        length = response.headers.get("Content-Length")
        return int(length) if length is not None and length.isdecimal() else None

    def _read(self, response: http.client.HTTPResponse, stop: threading.Event) -> bytes:
        try:
            return response.read1(CHUNK_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if stop.is_set():
                raise Cut from error
            raise explain(error, self._patience.stall_s, urlsplit(self._file.uri).netloc) from error

    def _refused(self, error: HTTPError) -> FetchError:
        """Return the error of an answer without a file."""
        cause = f"the server answers {error.code} {error.reason}".rstrip()
        error.close()
        match error.code:
            case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE if self._part.size:
                self._part.discard()
                return TransientFetchError("the file has changed on the server", _NETWORK)
            case code if code in _TRANSIENT:
                after = error.headers.get("Retry-After", "")
                return TransientFetchError(cause, _NETWORK, float(after) if after.isdecimal() else 0.0)
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                return FetchError(
                    cause, "write https://USER:PASSWORD@HOST/..., or download it beforehand and use fs://"
                )
            case _:
                return FetchError(cause, _ELSEWHERE)

    def _check_sum(self) -> None:
        if self._file.sha256 is None:
            return
        self.progress.note = "checking"
        found = sha256_of(self._part.flush())
        if found != self._file.sha256:
            self._part.discard()
            cause = f"its sha256 is {found} instead of {self._file.sha256}"
            raise FetchError(cause, "correct the sha256, or find out who changed the file")


def explain(error: Exception, stall_s: float, host: str) -> FetchError:
    """Return the cause of a network error and its remedy."""
    reason = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    host = host.rpartition("@")[2]
    match reason:
        case TimeoutError():
            return TransientFetchError(f"{host} has sent nothing for {stall_s:g} s (timeout)", _NETWORK)
        case socket.gaierror(errno=socket.EAI_AGAIN):
            return TransientFetchError(
                f"the name {host} cannot be looked up now (DNS: {reason.strerror})", _NETWORK
            )
        case socket.gaierror():
            return FetchError(f"the host {host} is not known (DNS: {reason.strerror})", _ELSEWHERE)
        case ssl.SSLCertVerificationError():
            hint = "SSL_CERT_FILE=FILE names the authorities to trust; https_proxy, if set, may be the reason"
            return FetchError(f"the certificate of {host} is not trusted: {reason.verify_message}", hint)
        case http.client.InvalidURL() | ValueError() | UnicodeError():
            return FetchError(f"it is not a URL: {reason}", _ELSEWHERE)
        case OSError():
            return TransientFetchError(f"no connection to {host}: {reason.strerror or reason}", _NETWORK)
        case _:
            return TransientFetchError(
                f"{host} does not speak HTTP: {type(reason).__name__} {reason}", _NETWORK
            )


def _quoted(uri: str) -> str:
    """Return the URI with spaces and non-ASCII letters, as people paste them, quoted."""
    scheme, separator, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}" + quote(path, safe="%/:=&?~+!$,;'@()*[]#")


def _login(uri: str) -> str | None:
    user, at, _ = urlsplit(uri).netloc.rpartition("@")
    if not at:
        return None
    import base64

    return "Basic " + base64.b64encode(unquote(user).encode()).decode()


def _version(headers: http.client.HTTPMessage) -> str | None:
    """Return an identification of the bytes: equal for two answers about the same version of a file.

    Source: RFC 9110, 8.8: a weak tag does not promise that.
    """
    tag = headers.get("ETag")
    mark = tag if tag is not None and not tag.startswith("W/") else headers.get("Last-Modified")
    if mark is None:
        return None
    import hashlib

    return hashlib.sha256(f"{mark} {headers.get('Content-Encoding', '')}".encode()).hexdigest()[:16]

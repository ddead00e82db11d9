#!/bin/sh
# h11 0.16.0: a response's head may end its lines with a bare LF, its chunk lines may not.
#
#   status line and headers with LF, Content-Length body     read
#   the same head, chunked body with CR LF                   read
#   the same head, chunked body with LF                      the head, then NEED_DATA though the whole body is there
#
# A server that prints a whole answer with LF (a shell script, awk, an old CGI program) sends both with LF, and curl reads it. A client
# on h11 gets the head and then waits for a body that has arrived: it must turn LF around chunk sizes into CR LF before h11 sees them.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -q --disable-pip-version-check --target "$folder" h11==0.16.0
PYTHONPATH="$folder" python3 - <<'PYTHON'
import h11


def body(answer: bytes) -> bytes | str:
    """Return the body of a whole answer to a GET, or what h11 says instead."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "127.0.0.1")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(answer)
    data = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            return "NEED_DATA"
        if isinstance(event, h11.Data):
            data += bytes(event.data)
    return data


head = b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n"
with_length = body(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
with_crlf = body(head + b"2\r\nok\r\n0\r\n\r\n")
with_lf = body(head + b"2\nok\n0\n\n")
print(f"h11 {h11.__version__}: length {with_length}, chunks with CR LF {with_crlf}, chunks with LF {with_lf}")
assert (with_length, with_crlf, with_lf) == (b"ok", b"ok", "NEED_DATA")
PYTHON

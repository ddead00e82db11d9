"""Files from a web server: complete or absent, whatever the server and the network do."""

import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from protocol.errors import ArtifactError, Finding
from sflow_ctl.runtime.artifacts.transfer import Patience
from tests.integration.artifacts.fetching import HASTY, cached, fetch, parts
from tests.integration.artifacts.file_server import FileServer, Handler, Page
from tests.support import wait_until

CONTENT = os.urandom(3_000_000)
SUM = hashlib.sha256(CONTENT).hexdigest()


def refusal(workspace: Path, uri: str, *, sha256: str | None = None) -> Finding:
    """The only finding of a fetch that must fail, and leaves nothing that counts as cached."""
    with pytest.raises(ArtifactError) as raised:
        fetch(workspace, {"M": uri}, sha256=sha256)
    (finding,) = raised.value.findings
    assert finding.code == "artifact-not-fetched"
    assert finding.what.startswith(f'Failed to download artifact "M": {uri}: ')
    assert finding.where == "w.yaml:1  M"
    assert finding.hint
    assert cached(workspace) == []
    return finding


def test_a_file_comes_once(server: FileServer, tmp_path: Path) -> None:
    uri = server.add("/m.bin?v=1", Page(CONTENT))
    paths, (came,) = fetch(tmp_path, {"M": uri})
    assert paths["M"].read_bytes() == CONTENT
    assert paths["M"].suffix == ".bin"
    assert (came.received_bytes, came.total_bytes, came.is_done) == (len(CONTENT), len(CONTENT), True)
    assert fetch(tmp_path, {"M": uri}) == (paths, [])
    assert len(server.seen) == 1
    assert parts(tmp_path) == []


def test_many_files_come_at_once(server: FileServer, tmp_path: Path) -> None:
    gate = threading.Barrier(4)
    uris = {f"M{i}": server.add(f"/{i}", Page(CONTENT[i:], gate=gate)) for i in range(4)}
    paths, _ = fetch(tmp_path, uris)
    assert [paths[f"M{i}"].read_bytes() == CONTENT[i:] for i in range(4)] == [True] * 4


def test_a_missing_content_length_is_accepted(server: FileServer, tmp_path: Path) -> None:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(CONTENT), 500_000):
            piece = CONTENT[start : start + 500_000]
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    server.answer = answer
    paths, _ = fetch(tmp_path, {"M": f"{server.url}/m"}, sha256=SUM)
    assert paths["M"].read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "requests", "word"),
    [(404, 1, "404 Not Found"), (403, 1, "403"), (410, 1, "410"), (503, 3, "503")],
)
def test_an_answer_that_is_not_a_file(
    status: int, requests: int, word: str, server: FileServer, tmp_path: Path
) -> None:
    uri = server.add("/m", Page(CONTENT, statuses=[status] * 9))
    assert word in refusal(tmp_path, uri).what
    assert len(server.seen) == requests


def test_transient_errors_are_retried(server: FileServer, tmp_path: Path) -> None:
    uri = server.add("/m", Page(CONTENT, statuses=[503, 429], headers={"Retry-After": "0"}))
    paths, _ = fetch(tmp_path, {"M": uri})
    assert paths["M"].read_bytes() == CONTENT
    assert len(server.seen) == 3


def test_a_silent_server_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started = time.monotonic()
        finding = refusal(tmp_path, f"http://127.0.0.1:{mute.getsockname()[1]}/m")
    assert "nothing for 0.3 s (timeout) (3 tries)" in finding.what
    assert time.monotonic() - started < 10


def test_a_server_that_stalls_in_the_middle_is_asked_for_the_rest(server: FileServer, tmp_path: Path) -> None:
    uri = server.add("/m", Page(CONTENT, stall_after=1_000_000))
    paths, _ = fetch(tmp_path, {"M": uri}, sha256=SUM)
    assert paths["M"].read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=1000000-", "bytes=2000000-"]


def test_dropped_connections_are_gone_on_with_however_many(server: FileServer, tmp_path: Path) -> None:
    uri = server.add("/m", Page(CONTENT, cuts=[500_000] * 5))  # more than there are tries without a new byte
    paths, (came,) = fetch(tmp_path, {"M": uri}, sha256=SUM)
    assert paths["M"].read_bytes() == CONTENT
    assert server.ranges() == [None, *(f"bytes={n}-" for n in range(500_000, 3_000_000, 500_000))]
    assert came.resumed_bytes == 0


def test_a_server_without_ranges_sends_it_all_again(server: FileServer, tmp_path: Path) -> None:
    uri = server.add("/m", Page(CONTENT, cuts=[500_000], has_ranges=False))
    paths, _ = fetch(tmp_path, {"M": uri})
    assert paths["M"].read_bytes() == CONTENT


def test_a_server_without_versions_sends_the_whole_file_again(server: FileServer, tmp_path: Path) -> None:
    uri = server.add("/m", Page(CONTENT, cuts=[500_000], version=None))
    paths, _ = fetch(tmp_path, {"M": uri})
    assert paths["M"].read_bytes() == CONTENT
    assert server.ranges() == [None, None]


def test_the_next_run_continues_a_failed_download(server: FileServer, tmp_path: Path) -> None:
    page = Page(CONTENT, cuts=[700_000, 0, 0, 0])
    uri = server.add("/m", page)
    assert "the connection ended after 700000 of 3000000 bytes" in refusal(tmp_path, uri).what
    assert len(parts(tmp_path)) == 1
    page.cuts.clear()
    paths, (came,) = fetch(tmp_path, {"M": uri}, sha256=SUM)
    assert paths["M"].read_bytes() == CONTENT
    assert server.ranges()[-1] == "bytes=700000-"
    assert came.resumed_bytes == 700_000
    assert "700 kB of it kept from before" in came.sentence()
    assert parts(tmp_path) == []


def test_a_part_of_another_version_is_not_gone_on_with(server: FileServer, tmp_path: Path) -> None:
    uri = server.add("/m", Page(CONTENT, cuts=[700_000, 0, 0, 0]))
    refusal(tmp_path, uri)
    server.add("/m", Page(CONTENT[::-1], version="v2"))
    paths, (came,) = fetch(tmp_path, {"M": uri})
    assert paths["M"].read_bytes() == CONTENT[::-1]
    assert came.resumed_bytes == 0


def test_a_killed_runs_part_is_taken_over_once_it_is_abandoned(server: FileServer, tmp_path: Path) -> None:
    uri = server.add("/m", Page(CONTENT, cuts=[700_000, 0, 0, 0]))
    refusal(tmp_path, uri)
    server.pages["/m"].cuts.clear()
    (left,) = parts(tmp_path)
    owned = left.with_name(left.name.replace(".part", "~4711-aa.part"))
    left.rename(owned)
    paths, (came,) = fetch(tmp_path, {"M": uri})  # somebody may be at work: all is fetched
    assert came.resumed_bytes == 0
    assert parts(tmp_path) == [owned]
    paths["M"].unlink()
    os.utime(owned, (time.time_ns() / 1e9 - 7200,) * 2)
    _, (came,) = fetch(tmp_path, {"M": uri})
    assert came.resumed_bytes == 700_000
    assert parts(tmp_path) == []
    assert paths["M"].read_bytes() == CONTENT


def test_a_wrong_checksum_is_named_with_both_and_nothing_is_kept(server: FileServer, tmp_path: Path) -> None:
    finding = refusal(tmp_path, server.add("/m", Page(CONTENT)), sha256="0" * 64)
    assert f"its sha256 is {SUM} instead of {'0' * 64}" in finding.what
    assert parts(tmp_path) == []


def test_a_cached_file_is_checked_once_and_fetched_again_when_its_sum_is_another(
    server: FileServer, tmp_path: Path
) -> None:
    uri = server.add("/m", Page(b"old"))
    paths, _ = fetch(tmp_path, {"M": uri})
    server.add("/m", Page(CONTENT))
    _, (came,) = fetch(tmp_path, {"M": uri}, sha256=SUM)
    assert paths["M"].read_bytes() == CONTENT
    assert "from" in came.sentence()
    note = paths["M"].with_name(f"{paths['M'].name}.sha256")
    assert note.read_text() == f"{SUM}  {paths['M'].name}\n"
    _, (came,) = fetch(tmp_path, {"M": uri}, sha256=SUM)
    assert "is cached" in came.sentence()
    assert len(server.seen) == 2
    paths["M"].write_bytes(b"spoilt")
    os.utime(paths["M"], ns=(time.time_ns() + 10**9,) * 2)
    fetch(tmp_path, {"M": uri}, sha256=SUM)
    assert paths["M"].read_bytes() == CONTENT
    assert len(server.seen) == 3


def test_one_failure_ends_the_others_and_keeps_their_parts(server: FileServer, tmp_path: Path) -> None:
    uris = {"SLOW": server.add("/slow", Page(CONTENT, stall_after=1_000_000)), "GONE": f"{server.url}/gone"}
    serve = server.answer

    def answer(request: Handler) -> None:
        if request.path == "/gone":
            wait_until(
                lambda: [p for p in parts(tmp_path) if p.stat().st_size > 500_000], "a part of the slow one"
            )
        serve(request)

    server.answer = answer
    with pytest.raises(ArtifactError) as raised:
        fetch(tmp_path, uris, patience=Patience(stall_s=60.0))  # only cutting it off ends the slow one
    assert [finding.where for finding in raised.value.findings] == ["w.yaml:1  GONE"]
    (part,) = parts(tmp_path)
    assert part.read_bytes() == CONTENT[: part.stat().st_size]
    assert "~" not in part.name
    assert cached(tmp_path) == []


def test_a_host_that_is_not_known(tmp_path: Path) -> None:
    assert "(DNS: " in refusal(tmp_path, "http://nowhere.invalid/m").what


def test_a_closed_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert (
        f"no connection to 127.0.0.1:{port}: Connection refused"
        in refusal(tmp_path, f"http://127.0.0.1:{port}/m").what
    )


def test_invalid_urls(tmp_path: Path) -> None:
    assert "it is not a URL" in refusal(tmp_path, "http://127.0.0.1:port/m").what


def test_a_server_that_speaks_something_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        def speak() -> None:
            for _ in range(HASTY.tries):
                connection, _ = other.accept()
                with connection:
                    connection.sendall(b"\x1b[31mSSH-2.0\r\n\r\n")
                    connection.recv(4096)

        thread = threading.Thread(target=speak)
        thread.start()
        what = refusal(tmp_path, f"http://127.0.0.1:{port}/m").what
        thread.join()
    assert "does not speak HTTP" in what
    assert "\x1b" not in what


def test_a_password_goes_to_its_host_only_and_is_never_shown(server: FileServer, tmp_path: Path) -> None:
    other = FileServer()
    try:
        target = other.add("/m", Page(CONTENT))

        def redirect(request: Handler) -> None:
            request.send_response(302)
            request.send_header("Location", target)
            request.send_header("Content-Length", "0")
            request.end_headers()

        server.answer = redirect
        with_password = server.url.replace("//", "//me:s%40cret@")
        paths, (came,) = fetch(tmp_path, {"M": f"{with_password}/m"})
        assert paths["M"].read_bytes() == CONTENT
        assert server.seen[0].headers["authorization"] == "Basic bWU6c0BjcmV0"
        assert "authorization" not in other.seen[0].headers
        assert "cret" not in came.sentence()
        assert "me@127.0.0.1" in came.sentence()
    finally:
        other.close()


def test_a_place_that_cannot_be_written(server: FileServer, tmp_path: Path) -> None:
    uri = server.add("/m", Page(CONTENT))
    (tmp_path / ".sflow_cache").write_text("a file")
    with pytest.raises(ArtifactError) as raised:
        fetch(tmp_path, {"M": uri})
    (finding,) = raised.value.findings
    assert "Not a directory" in finding.what
    assert "--workspace-dir" in str(finding.hint)

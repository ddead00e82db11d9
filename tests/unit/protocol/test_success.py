"""Conditions besides an exit status of 0."""

from collections.abc import Iterator

import pytest

from protocol.diagnosis.success import LINE_BYTES, Files, PrintedLog, missing
from protocol.messages.rank_spec import RequiredFile, RequiredJson, Success

CONTENT = {
    "/d/a.json": b'{"rate": 3, "runs": [1]}',
    "/d/empty": b"",
    "/d/bad.json": b"{",
    "/d/log": b"one\ntwo\n",
    "/d/bom": b'\xef\xbb\xbf{"rate": 3}',
    "/d/utf-16": '\ufeff{"rate": 3}'.encode("utf-16-le"),
    "/d/nan": b'{"rate": 3, "loss": NaN, "most": Infinity}',
    "/d/lines": b'{"rate": 3}\r\n{"rate": 4}\r\n',
    "/d/sequence": b'\x1e{"rate": 3}\n\x1e{"rate": 4}\n',
    "/d/pretty": b'{\n "rate": 3\n}\n{\n "rate": 4\n}\n',
    "/d/cut": b'{"rate": 3}\n{"rate"',
}


def matching(path: str) -> Iterator[tuple[str, int]]:
    if path == "/denied":
        raise PermissionError(13, "Permission denied")
    for name, content in CONTENT.items():
        if name == path or (path.endswith("*") and name.startswith(path[:-1])):
            yield name, len(content)


def read(path: str, limit: int) -> bytes:
    if path not in CONTENT:
        raise FileNotFoundError(2, "No such file or directory")
    return CONTENT[path][:limit]


def said(success: Success, log: bytes = b"", cut: int = 1 << 20) -> tuple[str, str] | None:
    """(word, sentence) of what is missing."""

    def blocks(path: str) -> Iterator[bytes]:
        if path == "/gone":
            raise FileNotFoundError(2, "No such file or directory")
        return iter([log[at : at + cut] for at in range(0, len(log), cut)])

    cause = missing(success, [PrintedLog("/log")], Files(matching, read, blocks))
    return None if cause is None else (cause.word, cause.text)


def of_file(path: str, min_bytes: int = 1) -> Success:
    return Success(files=(RequiredFile(path=path, min_bytes=min_bytes),))


def of_json(path: str, where: str) -> Success:
    return Success(json=(RequiredJson(path=path, where=where),))


def test_nothing_asked_is_nothing_missing() -> None:
    assert said(Success()) is None


@pytest.mark.parametrize(
    ("success", "text"),
    [
        (of_file("/d/a.json"), None),
        (of_file("/d/*"), None),
        (of_file("/d/empty", 0), None),
        (of_file("/d/a.json", 24), None),
        (of_file("/d/a.json", 25), "/d/a.json has 24 bytes, but needs at least 25"),
        (of_file("/d/empty"), "/d/empty, which it must write, is empty"),
        (of_file("/d/nope"), "there is no /d/nope, which it must write"),
        (of_file("/e/*"), "no file matches /e/*, which it must write"),
        (of_file("/denied"), "/denied, which it must write, cannot be read: Permission denied"),
    ],
)
def test_files(success: Success, text: str | None) -> None:
    assert said(success) == (None if text is None else ("no_output", text))


@pytest.mark.parametrize(
    ("success", "text"),
    [
        (of_json("/d/a.json", "rate > 2 and len(runs) == 1"), None),
        (of_json("/d/a.json", "rate > 5"), "/d/a.json does not fulfil `rate > 5`: rate is 3"),
        (of_json("/d/a.json", "nope == 1"), '/d/a.json does not fulfil `nope == 1`: there is no "nope"'),
        (of_json("/d/a.json", "1 +"), None),
        (of_json("/d/nope", "x"), "there is no /d/nope, which it must write"),
    ],
)
def test_json_documents(success: Success, text: str | None) -> None:
    if success.json[0].where == "1 +":  # only a late expression can become one that is none
        assert "is not an expression" in (said(success) or ("", ""))[1]
        return
    assert said(success) == (None if text is None else ("success", text))


def test_a_document_that_is_none() -> None:
    word, text = said(of_json("/d/bad.json", "x")) or ("", "")
    assert word == "success"
    assert text.startswith("/d/bad.json is not a JSON document")


def test_patterns() -> None:
    log = b"start\n\x1b[31mERROR\x1b[0m: x\ndone\n"
    assert said(Success(require=("^done$", "start")), log) is None
    assert said(Success(require=("finished",)), log) == ("success", "no line of its log matches `finished`")
    assert said(Success(forbid=("^ERROR: ",)), log) == (
        "success",
        "its log has a line that `^ERROR: ` forbids: ERROR: x",
    )
    assert said(Success(require=("done",), forbid=("FATAL",)), log) is None
    assert said(Success(require=("x",))) == ("success", "no line of its log matches `x`")


def test_the_forbidden_line_is_reported_with_its_place() -> None:
    log = b"a\r\nb\rBAD thing"
    cause = missing(
        Success(forbid=("BAD",)), [PrintedLog("/log")], Files(matching, read, lambda _: iter([log]))
    )
    assert cause is not None
    assert (cause.line, cause.line_number, cause.offset) == ("BAD thing", 3, log.index(b"BAD"))


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
def test_how_a_log_comes_in_blocks_makes_no_difference(cut: int) -> None:
    log = "first\r\nzwölf\rthird line\nlast".encode()
    assert said(Success(require=("^first$", "^zwölf$", "^third line$", "^last$")), log, cut) is None
    assert said(Success(require=("^third$",)), log, cut) is not None


def test_a_line_without_an_end_is_searched_in_pieces() -> None:
    assert said(Success(require=("needle",)), b"x" * (3 * LINE_BYTES) + b"needle", 1000) is None


def test_a_missing_log_is_not_a_success() -> None:
    def blocks(path: str) -> Iterator[bytes]:
        raise FileNotFoundError(2, "No such file or directory")

    cause = missing(Success(forbid=("x",)), [PrintedLog("/log")], Files(matching, read, blocks))
    assert cause is not None
    assert "cannot be read" in cause.text


@pytest.mark.parametrize("name", ["bom", "utf-16", "nan", "lines", "sequence", "pretty"])
def test_public_14_and_15_conditions_read_json_as_programs_write_it(name: str) -> None:
    assert said(of_json(f"/d/{name}", "rate > 2")) is None


def test_public_15_a_condition_holds_for_every_document() -> None:
    assert said(of_json("/d/lines", "rate > 3")) == (
        "success", "document 1 of /d/lines does not fulfil `rate > 3`: rate is 3",
    )  # fmt: skip
    _, text = said(of_json("/d/cut", "rate > 2")) or ("", "")
    assert text.startswith("/d/cut is not a JSON document")

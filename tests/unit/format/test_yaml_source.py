"""YAML as data: the format's rules without YAML 1.1's traps."""

from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from sflow_ctl.format.yaml_source import MAX_FILE_BYTES, dump, read_source
from sflow_ctl.format.yaml_values import plain_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12:30:00", "12:30:00"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("1e-4", 1e-4),
        ("1.5e3", 1500.0),
        ("010", 8),
        ("0x1F", 31),
        ("0b101", 5),
        ("1_000", 1000),
        ("-7", -7),
        (".5", 0.5),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("nope", "nope"),
        ("00:30", "00:30"),
        ("1.2.3", "1.2.3"),
        ("089", "089"),
    ],
)
def test_an_unquoted_scalar_means_what_it_looks_like(text: str, value: object) -> None:
    found = plain_scalar(text)
    assert (found, type(found)) == (value, type(value))


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return read_source(path)


def test_quoted_scalars_stay_text(tmp_path: Path) -> None:
    source, _ = read(tmp_path, "a: \"yes\"\nb: '7'\nc: |\n  1\n")
    assert source.data == {"a": "yes", "b": "7", "c": "1\n"}


def test_merge_keys_and_aliases_work(tmp_path: Path) -> None:
    source, _ = read(tmp_path, "base: &b {x: 1, y: 2}\nnew: {<<: *b, y: 3}\nlist: {<<: [*b, {z: 9}]}\n")
    assert source.data["new"] == {"x": 1, "y": 3}
    assert source.data["list"] == {"x": 1, "y": 2, "z": 9}


def test_a_duplicate_key_is_an_error_with_both_lines(tmp_path: Path) -> None:
    _, (finding,) = read(tmp_path, "a: 1\nb: 2\na: 3\n")
    assert finding.code == "duplicate-key"
    assert finding.what == '"a" is given twice in one mapping (at 1:1 and 3:1)'
    assert finding.where.endswith("a.yaml:3:1")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: [1", "yaml-syntax"),
        ("a: 1\n--- \nb: 2\n", "yaml-syntax"),
        ("a: !!python/object:os.system x", "yaml-tag"),
        ("a: !custom {b: 1}", "yaml-tag"),
        ("? [1, 2]\n: x\n", "yaml-key"),
        ("a: {<<: 7}", "yaml-key"),
        ("", "file-empty"),
        ("a: &x [*x]", "yaml-syntax"),
        ("[" * 3000, "yaml-syntax"),
    ],
)
def test_bad_yaml_is_a_finding(text: str, code: str, tmp_path: Path) -> None:
    _, findings = read(tmp_path, text)
    assert [finding.code for finding in findings] == [code]


def test_every_duplicate_tag_and_key_of_a_file_is_found(tmp_path: Path) -> None:
    _, findings = read(tmp_path, "a: 1\na: 2\nb: !x 1\nc:\n  d: 1\n  d: 2\n? [1]\n: 2\n")
    assert [(finding.code, finding.where.rpartition("a.yaml:")[2]) for finding in findings] == [
        ("duplicate-key", "2:1"),
        ("yaml-tag", "3:4"),
        ("duplicate-key", "6:3"),
        ("yaml-key", "7:3"),
    ]


@pytest.mark.parametrize(
    ("text", "what", "place"),
    [
        ("a:\n\tb: 1\n", "not valid YAML: a tab in the indentation", "2:1"),
        ("a:\n  - b: 1\n \t- c: 1\n", "not valid YAML: a tab in the indentation", "3:2"),
        ('a: 1\nb: "open\nc: 2\nd: 3\n', "not valid YAML: a quote is not closed", "2:4"),
        ("a: 'it''s open\nc: 2\n", "not valid YAML: a quote is not closed", "1:4"),
    ],
)
def test_l8_a_syntax_error_is_placed_where_it_begins(
    text: str, what: str, place: str, tmp_path: Path
) -> None:
    _, (finding,) = read(tmp_path, text)
    assert (finding.what, finding.where.rpartition("a.yaml:")[2]) == (what, place)


def test_s1_aliases_of_aliases_are_refused_before_they_are_written_out(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    source, (finding,) = read(tmp_path, "\n".join(lines) + "\n")
    assert source is None
    assert (finding.code, finding.what) == ("yaml-aliases", "aliases repeat more than 100000 values")
    assert finding.where.rpartition("a.yaml:")[0]


def test_s1_merge_keys_of_merge_keys_are_counted_too(tmp_path: Path) -> None:
    first = "a0: &a0 {" + ", ".join(f"k{i}: 1" for i in range(50)) + "}"
    lines = [first] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 30)]
    source, (finding,) = read(tmp_path, "\n".join(lines) + "\n")
    assert source is None
    assert finding.code == "yaml-aliases"


def test_a_thousand_uses_of_one_anchor_are_fine(tmp_path: Path) -> None:
    uses = "\n".join(f"- {{<<: *base, n: {i}}}" for i in range(1000))
    source, findings = read(tmp_path, f"- &base {{a: 1, b: [1, 2, 3]}}\n{uses}\n")
    assert not findings
    assert source.data[1000] == {"a": 1, "b": [1, 2, 3], "n": 999}


def test_a_place_is_found_by_path(tmp_path: Path) -> None:
    source, _ = read(tmp_path, "a:\n  - b: 1\n  - c:\n      d: 2\n")
    assert source.where(("a", 1, "c", "d")).endswith(":4:10")
    assert source.where(("a", 1, "nope")).endswith(":3:5")
    assert source.key_where(("a", 1, "c")).endswith(":3:5")
    assert source.has(("a", 0, "b"))
    assert not source.has(("a", 5))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
    max_leaves=12,
)


@hypothesis.settings(deadline=None)
@hypothesis.given(value=st.dictionaries(st.text("abc", min_size=1), values, min_size=1, max_size=4))
def test_dumped_data_reads_back_the_same(
    value: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("dump") / "a.yaml"
    text = dump(value)
    hypothesis.assume("\x85" not in text and "\u2028" not in text and "\u2029" not in text)
    path.write_text(text)
    source, findings = read_source(path)
    assert not findings
    assert source is not None
    assert source.data == value


@hypothesis.settings(deadline=1000, max_examples=300)
@hypothesis.given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_data_or_findings(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.yaml"
    path.write_bytes(data)
    source, findings = read_source(path)
    assert source is not None or findings


@pytest.mark.parametrize(
    ("content", "place", "what"),
    [
        (b'version: "0.1"\nworkflow: {name: \xf6}\n', "2:18", "is not UTF-8: byte 0xf6"),
        ("\u00e9: 1\n\u00fc: ".encode() + b"\xff", "2:4", "is not UTF-8: byte 0xff"),
        ('version: "0.1"\n'.encode("utf-16"), "1:1", "is UTF-16"),
    ],
)
def test_public_21_another_encoding_is_named_with_its_place(
    content: bytes, place: str, what: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.yaml"
    path.write_bytes(content)
    source, (finding,) = read_source(path)
    assert source is None
    assert (finding.where, finding.hint) == (f"{path}:{place}", "save it as UTF-8")
    assert what in finding.what


def test_a_file_that_holds_data_is_refused_before_all_of_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    source, (finding,) = read_source(path)
    assert source is None
    assert (finding.code, finding.where) == ("file-too-large", str(path))
    assert "larger than 32 MiB" in finding.what
    _, (endless,) = read_source(Path("/dev/zero"))
    assert endless.code == "file-too-large"


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_may_end_as_on_other_systems(end: str, tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_bytes(f"a: |{end}  one{end}  two{end}".encode())
    source, findings = read_source(path)
    assert source is not None
    assert not findings
    assert source.data == {"a": "one\ntwo\n"}

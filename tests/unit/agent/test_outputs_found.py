"""Which files and values an agent finds for the outputs of a task, and why others do not count."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from protocol.messages.handover import (
    ATTEMPT_MARK,
    GIVEN_VALUES,
    MAX_VALUE_BYTES,
    BestBy,
    FileSelection,
    FoundOutput,
    OutputRule,
)
from sflow_agent.handover.finding import SearchResult, find_outputs

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
"""SHA-256 of "hello", as sha256sum(1) prints it."""


class Directory:
    """A task's directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def write(self, *names: str, content: str = "hello") -> None:
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def begin(self) -> None:
        """Begin the attempt: what is there already is older, by the file system's clock."""
        before = max((one.lstat().st_ctime_ns for one in self.root.rglob("*")), default=0)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            (self.root / ATTEMPT_MARK).write_text("1\n")
            if (self.root / ATTEMPT_MARK).stat().st_ctime_ns > before:
                return
        raise AssertionError("the clock of the file system does not move")

    def find(self, *rules: OutputRule, number: int = 1, counts_all: bool = False) -> SearchResult:
        return find_outputs(str(self.root), rules, number, counts_all=counts_all)

    def one(self, rule: OutputRule, **options: Any) -> FoundOutput:
        found = self.find(rule, **options)
        assert not found.problem, found.problem
        return found.outputs[0]

    def problem(self, rule: OutputRule) -> tuple[str, str]:
        found = self.find(rule)
        assert found.problem
        return found.problem.replace(str(self.root), "DIR"), found.hint

    def relative(self, found: FoundOutput) -> list[str]:
        return [os.path.relpath(one.path, self.root) for one in found.files]


@pytest.fixture
def there(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "train")


def rule(kind: Any = "file", *globs: str, select: str = "latest", **fields: Any) -> OutputRule:
    return OutputRule(name="out", kind=kind, selection=FileSelection(globs=globs, select=select), **fields)


# ---------------------------------------------------------------------- files


def test_a_file_has_its_path_size_and_digest(there: Directory) -> None:
    there.begin()
    there.write("a.txt")
    found = there.one(rule("file", "a.txt"))
    assert found.path == str(there.root / "a.txt")
    assert (found.bytes, found.count, found.sha256) == (5, 1, HELLO)
    assert found.files[0].mtime_ns == (there.root / "a.txt").stat().st_mtime_ns


def test_an_empty_file_that_is_named_counts(there: Directory) -> None:
    there.begin()
    there.write("done", content="")
    assert there.one(rule("file", "done")).bytes == 0


def test_of_several_files_the_highest_step_counts(there: Directory) -> None:
    there.begin()
    there.write("ckpt/step_9.pt", "ckpt/step_10.pt")
    found = there.one(rule("file", "ckpt/*.pt"))
    assert there.relative(found) == ["ckpt/step_10.pt"]
    assert (found.step, found.why) == (10, "it has the highest step")


def test_files_of_one_step_in_a_folder_are_one_output(there: Directory) -> None:
    there.begin()
    there.write("step_1/a.pt", "step_2/a.pt", "step_2/b.pt")
    found = there.one(rule("file", "**/*.pt"))
    assert found.path == str(there.root / "step_2")
    assert there.relative(found) == ["step_2/a.pt", "step_2/b.pt"]
    assert len(found.sha256) == 64


def test_two_files_that_may_be_meant_are_refused(there: Directory) -> None:
    there.begin()
    there.write("a.pt", "b.pt")
    assert there.problem(rule("file", "*.pt")) == (
        "which file its output out is is not clear: 2 candidates without a step in their names: a.pt, b.pt",
        "narrow `path`, or say which with `select`: a path, a pattern, or best",
    )


def test_a_pattern_selects_one_of_several(there: Directory) -> None:
    there.begin()
    there.write("a.pt", "final.pt")
    assert there.relative(there.one(rule("file", "*.pt", select="final*"))) == ["final.pt"]


def test_a_missing_file_is_named_with_its_pattern(there: Directory) -> None:
    there.begin()
    text, hint = there.problem(rule("file", "ckpt/*.pt"))
    assert text == "its output out is missing: no file matches ckpt/*.pt in DIR"
    assert hint == "give it a `default`, or `required: false`"
    assert there.find(rule("file", "ckpt/*.pt")).is_missing


def test_a_file_that_is_older_than_the_attempt_does_not_count(there: Directory) -> None:
    there.write("a.txt")
    there.begin()
    text, hint = there.problem(rule("file", "a.txt"))
    assert (
        text == "its output out is missing: there is no a.txt in DIR; what is older than the attempt: a.txt"
    )
    assert hint.startswith("`stale: ok` counts older files")
    assert there.one(rule("file", "a.txt", takes_stale=True)).count == 1
    assert there.one(rule("file", "a.txt"), counts_all=True).count == 1


def test_a_new_file_with_an_old_time_counts(there: Directory) -> None:
    there.begin()
    there.write("a.txt")
    os.utime(there.root / "a.txt", ns=(1, 1))
    assert there.one(rule("file", "a.txt")).count == 1


def test_a_stale_checkpoint_never_beats_a_new_one(there: Directory) -> None:
    there.write("step_100.pt")
    there.begin()
    there.write("step_5.pt")
    found = there.one(rule("file", "*.pt"))
    assert there.relative(found) == ["step_5.pt"]
    assert found.notes == ("is older than the attempt: step_100.pt",)


def test_several_files_are_all_that_match_in_order(there: Directory) -> None:
    there.begin()
    there.write("b.csv", "sub/a.csv", "train.log", "train.attempt-1.log", "outputs.json")
    found = there.one(rule("files", "**/*"))
    assert there.relative(found) == ["b.csv", "sub/a.csv"]


def test_no_files_are_fine_unless_some_are_required(there: Directory) -> None:
    there.begin()
    assert there.one(rule("files", "*.csv", is_required=False)).files == ()
    assert there.find(rule("files", "*.csv")).is_missing


def test_too_many_files_are_an_error_not_cut(there: Directory) -> None:
    there.begin()
    there.write("a.csv", "b.csv", "c.csv")
    assert there.problem(rule("files", "*.csv", max_files=2)) == (
        "its output out has 3 files, and may have 2",
        "narrow `path`, or raise `max_files`",
    )


def test_a_directory_has_all_its_files_and_one_digest(there: Directory) -> None:
    there.begin()
    there.write("model/a", "model/sub/b", "model/.hidden")
    found = there.one(rule("dir", "model"))
    assert found.path == str(there.root / "model")
    assert there.relative(found) == ["model/.hidden", "model/a", "model/sub/b"]
    before = found.sha256
    there.write("model/a", content="other")
    assert there.one(rule("dir", "model")).sha256 != before


def test_a_file_is_not_a_directory(there: Directory) -> None:
    there.begin()
    there.write("model")
    assert there.problem(rule("dir", "model"))[0] == (
        "its output out is missing: there is no directory model in DIR"
    )


def test_an_old_directory_does_not_count(there: Directory) -> None:
    there.write("model/a")
    there.begin()
    assert there.problem(rule("dir", "model"))[0] == (
        "its output out is missing: everything in model is older than the attempt"
    )


def test_a_manifest_lists_files_with_digests(there: Directory) -> None:
    there.begin()
    there.write("a.csv")
    found = there.one(rule("manifest", "*.csv"))
    document = json.loads(Path(found.path).read_text())
    assert document["files"] == [{"path": str(there.root / "a.csv"), "bytes": 5, "sha256": HELLO}]


def test_a_link_that_leads_out_is_not_followed(there: Directory, tmp_path: Path) -> None:
    (tmp_path / "secret.pt").write_text("x")
    there.begin()
    (there.root / "a.pt").symlink_to(tmp_path / "secret.pt")
    text, _ = there.problem(rule("file", "*.pt"))
    assert (
        text
        == "its output out is missing: no file matches *.pt in DIR; what leads out of the directory: a.pt"
    )


# ---------------------------------------------------------------------- the best one


def test_the_best_step_of_a_record_counts(there: Directory) -> None:
    there.begin()
    there.write("step_1.pt", "step_2.pt", "step_3.pt")
    records = [
        {"step": 1, "val": {"loss": 0.5}},
        {"step": 2, "val": {"loss": 0.1}},
        {"step": 3, "val": {"loss": 0.3}},
    ]
    there.write("m.jsonl", content="\n".join(map(json.dumps, records)))
    by = BestBy(path="m.jsonl", key="val.loss")
    found = there.one(rule("file", "*.pt", select="best", best=by))
    assert (there.relative(found), found.why) == (["step_2.pt"], "it has the lowest val.loss, 0.1")
    by = BestBy(path="m.jsonl", key="val.loss", mode="max")
    assert there.relative(there.one(rule("file", "*.pt", select="best", best=by))) == ["step_1.pt"]


def test_each_candidate_may_have_its_own_number(there: Directory) -> None:
    there.begin()
    there.write("step_1/a.pt", "step_1/b.pt", "step_2/a.pt")
    there.write("step_1/m.json", content='{"acc": 0.9}')
    there.write("step_2/m.json", content='{"acc": 0.4}')
    by = BestBy(path="{dir}/m.json", key="acc", mode="max")
    found = there.one(rule("file", "*/*.pt", select="best", best=by))
    assert there.relative(found) == ["step_1/a.pt", "step_1/b.pt"]


def test_without_any_number_none_is_the_best(there: Directory) -> None:
    there.begin()
    there.write("step_1.pt", "step_2.pt")
    text, hint = there.problem(rule("file", "*.pt", select="best", best=BestBy(path="m.json", key="loss")))
    assert text == "which file its output out is is not clear: no loss of any of them is in m.json"
    assert hint == 'write records such as {"step": 100, "loss": 0.5}, or {dir} into `best.path`'


def test_a_name_with_the_word_best_is_the_best(there: Directory) -> None:
    there.begin()
    there.write("step_1.pt", "best.pt")
    assert there.relative(there.one(rule("file", "*.pt", select="best"))) == ["best.pt"]


# ---------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("store", ["hardlink", "copy", "symlink"])
def test_files_are_kept_in_a_folder_of_the_attempt(there: Directory, store: Any) -> None:
    there.begin()
    there.write("ckpt/step_1.pt")
    found = there.one(rule("file", "ckpt/*.pt", store=store), number=3)
    assert found.path == str(there.root / ".sflow_kept/3/out/ckpt/step_1.pt")
    assert found.sha256 == HELLO
    is_same = Path(found.path).samefile(there.root / "ckpt/step_1.pt")
    assert is_same == (store != "copy")
    assert Path(found.path).is_symlink() == (store == "symlink")


def test_what_is_kept_survives_a_later_attempt(there: Directory) -> None:
    there.begin()
    there.write("a.pt")
    first = there.one(rule("file", "a.pt", store="copy"), number=1)
    there.write("a.pt", content="other")
    second = there.one(rule("file", "a.pt", store="copy"), number=2)
    assert Path(first.path).read_text() == "hello"
    assert Path(second.path).read_text() == "other"


def test_a_search_that_is_repeated_finds_the_same(there: Directory) -> None:
    there.begin()
    there.write("a.pt")
    kept = rule("file", "a.pt", store="copy")
    assert there.one(kept) == there.one(kept)


def test_a_link_that_is_refused_becomes_a_copy(there: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    there.begin()
    there.write("a.pt")
    found = there.one(rule("file", "a.pt", store="hardlink"))
    assert found.notes == ("is copied: Invalid cross-device link, so it cannot be linked",)
    assert Path(found.path).read_text() == "hello"


# ---------------------------------------------------------------------- values


def test_a_metric_is_a_number_at_a_path(there: Directory) -> None:
    there.begin()
    there.write("m.json", content='{"val": {"loss": 0.25}}')
    assert there.one(rule("metric", "m.json", json="val.loss")).value == 0.25


def test_a_text_file_is_text_unless_a_type_says_more(there: Directory) -> None:
    there.begin()
    there.write("n.txt", content="12\n")
    assert there.one(rule("param", "n.txt")).value == "12"
    assert there.one(rule("param", "n.txt", type="int")).value == 12
    assert there.one(rule("metric", "n.txt")).value == 12.0


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('{"n": "x"}', "its output out: wanted int, got str 'x', in m.json"),
        ('{"n": 1.5}', "its output out: wanted int, got float 1.5, in m.json"),
        ('{"n": true}', "its output out: wanted int, got bool True, in m.json"),
        ('{"m": 1}', "its output out is missing: m.json has no n"),
    ],
)
def test_a_value_of_another_type_names_both(there: Directory, content: str, text: str) -> None:
    there.begin()
    there.write("m.json", content=content)
    assert there.problem(rule("param", "m.json", json="n", type="int"))[0] == text


def test_a_file_that_is_not_json_is_an_error(there: Directory) -> None:
    there.begin()
    there.write("m.json", content="{")
    text, _ = there.problem(rule("param", "m.json"))
    assert text.startswith("its output out cannot be read: m.json is not JSON: ")
    assert not there.find(rule("param", "m.json")).is_missing


def test_the_program_may_say_a_value(there: Directory) -> None:
    there.begin()
    there.write(GIVEN_VALUES, content='{"out": [1, 2]}\n{"other": 3}')
    assert there.one(rule("param", type="list")).value == [1, 2]


def test_a_value_of_an_earlier_attempt_does_not_count(there: Directory) -> None:
    there.write(GIVEN_VALUES, content='{"out": 1}')
    there.begin()
    text, hint = there.problem(rule("param"))
    assert text == "its output out is missing: its program has not put it into $SFLOW_OUTPUTS_FILE"
    assert hint == 'write {"out": VALUE} there, or give it a `path` or a `default`'


def test_what_the_program_says_must_be_an_object(there: Directory) -> None:
    there.begin()
    there.write(GIVEN_VALUES, content="[1]")
    assert (
        there.problem(rule("param"))[0]
        == "what its program has put into $SFLOW_OUTPUTS_FILE is not a JSON object"
    )


def test_a_default_is_used_and_noted(there: Directory) -> None:
    there.begin()
    found = there.one(rule("param", "n.txt", type="int", has_default=True, default=7))
    assert (found.value, found.is_default, found.is_missing) == (7, True, True)


def test_a_default_does_not_hide_a_wrong_type(there: Directory) -> None:
    there.begin()
    there.write("n.txt", content="x")
    wanted = rule("param", "n.txt", type="int", has_default=True, default=7)
    assert there.problem(wanted)[0] == "its output out: wanted int, got the text 'x', in n.txt"


def test_what_need_not_be_there_is_left_out(there: Directory) -> None:
    there.begin()
    found = there.one(rule("file", "a.pt", is_required=False))
    assert (found.is_missing, found.is_default, found.path) == (True, False, "")


def test_a_large_value_stays_in_a_file(there: Directory) -> None:
    there.begin()
    value = ["x" * 1000] * (MAX_VALUE_BYTES // 1000 + 1)
    there.write("v.json", content=json.dumps(value))
    found = there.one(rule("param", "v.json"))
    assert found.is_large
    assert found.value is None
    assert json.loads(Path(found.path).read_text()) == value


def test_all_problems_are_in_one_text(there: Directory) -> None:
    there.begin()
    found = there.find(rule("file", "a"), rule("dir", "b"))
    assert found.problem.count("is missing") == 2

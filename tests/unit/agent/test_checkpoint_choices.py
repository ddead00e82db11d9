"""Which checkpoint is chosen: the nine cases of the rules, and what else may be in a directory."""

import json
import os
from pathlib import Path

import pytest

from protocol.messages.handover import CheckpointBase, CheckpointChoice, CheckpointRules, FileSelection
from sflow_agent.checkpoints import finding
from sflow_agent.checkpoints.choosing import marker_of
from sflow_agent.checkpoints.finding import find_checkpoint
from sflow_agent.checkpoints.globs import glob_regex
from sflow_agent.checkpoints.steps import number_in


@pytest.fixture(autouse=True)
def _nothing_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "LOOKS_AGAIN_AFTER_S", 0.0)


class Directory:
    """A task's directory, with what its program has written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "checkpoints"
        self.path.mkdir(parents=True)

    def write(self, *names: str, content: str = "x", at_ns: int | None = None) -> None:
        for name in names:
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            if at_ns is not None:
                os.utime(file, ns=(at_ns, at_ns))

    def choice(self, base: CheckpointBase | None = None, **rules: object) -> CheckpointChoice:
        names = set(FileSelection.__struct_fields__)
        selection = FileSelection(**{name: rules.pop(name) for name in names & rules.keys()})  # type: ignore[arg-type]
        whole = CheckpointRules(directory="checkpoints", selection=selection, **rules)  # type: ignore[arg-type]
        return find_checkpoint(str(self.root), whole, base)

    def chosen(self, **rules: object) -> str:
        choice = self.choice(None, **rules)
        assert not choice.problem, choice.problem
        return os.path.relpath(choice.path, self.path) if choice.path else ""


@pytest.fixture
def there(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "train")


# ---------------------------------------------------------------------- the nine cases


def test_the_pointer_beats_the_number(there: Directory) -> None:
    there.write("step_1.pt", "step_9.pt")
    there.write("state.json", content='{"checkpoint": "step_1.pt", "step": 1}')
    choice = there.choice(state_file="state.json")
    assert (choice.path, choice.step, choice.rule) == (str(there.path / "step_1.pt"), 1, "state_file")


def test_a_pointer_to_a_missing_file_is_an_error(there: Directory) -> None:
    there.write("step_9.pt")
    there.write("state.json", content='{"checkpoint": "step_10.pt"}')
    choice = there.choice(state_file="state.json")
    assert choice.problem == f"{there.path}/state.json points to step_10.pt, which does not exist"
    assert not choice.path


def test_two_without_numbers_are_refused(there: Directory) -> None:
    there.write("a.pt", "b.pt")
    choice = there.choice()
    assert choice.rule == "ambiguous"
    assert choice.problem == (
        "which checkpoint it continues from is not clear: 2 candidates without a step in their names: a.pt, b.pt"
    )
    assert "--checkpoint" in choice.hint
    assert there.choice(starts_anew_if_ambiguous=True).problem == ""


def test_a_single_one_without_a_number_is_taken(there: Directory) -> None:
    there.write("last.pt")
    assert there.choice() == CheckpointChoice(
        rule="only",
        why="it is the only one",
        path=str(there.path / "last.pt"),
        newest_ns=there.choice().newest_ns,
    )


def test_a_date_in_a_name_is_no_step(there: Directory) -> None:
    there.write("checkpoint-2026-11-30.pt", "checkpoint-20261129.pt", "step_7_2099-12-31.pt")
    assert there.chosen() == "step_7_2099-12-31.pt"


def test_a_number_of_a_folder_counts(there: Directory) -> None:
    there.write("step_2/model.pt", "step_0010/model.pt", "step_9/model.pt")
    choice = there.choice()
    assert (os.path.relpath(choice.path, there.path), choice.step) == ("step_0010/model.pt", 10)


def test_files_of_another_instance_are_never_seen(tmp_path: Path) -> None:
    own, other = Directory(tmp_path / "train_a"), Directory(tmp_path / "train_b")
    other.write("step_9.pt")
    assert own.choice().rule == "none"
    (own.path / "step_8.pt").symlink_to(other.path / "step_9.pt")
    choice = own.choice()
    assert (choice.path, choice.notes) == ("", ("leads out of the directory: step_8.pt",))
    own.path.rename(own.root / "old")
    (own.root / "checkpoints").symlink_to(other.path)
    assert "leads out of the task's directory" in own.choice().problem


def test_shards_of_one_step_are_a_directory(there: Directory) -> None:
    there.write("step_5/rank_0.pt", "step_5/rank_1.pt", "step_4/rank_0.pt", "step_4/rank_1.pt")
    assert (there.chosen(), there.choice().step) == ("step_5", 5)
    assert there.choice().others == ("step_4",)
    there.write("step_6_rank_0.pt", "step_6_rank_1.pt")
    assert (there.chosen(), there.choice().step) == (".", 6)


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("global_step100/mp_rank_00_model_states.pt", ("step", 100)),
        ("epoch=3-step=1000.ckpt", ("step", 1000)),
        ("checkpoint-500/model.safetensors", ("step", 500)),
        ("ckpt7.bin", ("step", 7)),
        ("iter_0000042", ("step", 42)),
        ("iteration-3.npz", ("step", 3)),
        ("Step_12.pt", ("step", 12)),
        ("trainStep5.pt", ("step", 5)),
        ("epoch_3.pt", ("epoch", 3)),
        ("step_100/epoch_3.pt", ("step", 100)),
        ("ckpt_20231201.pt", None),
        ("step_20231201.pt", ("step", 20231201)),
        ("checkpoint_2023_12_01.pt", None),
        ("step_10k.pt", None),
        ("10000_steps.zip", None),
        ("footstep_3.pt", None),
        ("last.pt", None),
        ("step_0.pt", ("step", 0)),
    ],
)
def test_numbers_are_digits_after_a_known_word(path: str, number: tuple[str, int] | None) -> None:
    found = number_in(path)
    assert (None if found is None else (found.kind, found.value)) == number


def test_steps_come_before_epochs_and_others(there: Directory) -> None:
    there.write("epoch_99.pt", "final.pt")
    assert there.chosen() == "epoch_99.pt"
    there.write("step_3.pt")
    choice = there.choice()
    assert os.path.basename(choice.path) == "step_3.pt"  # noqa: PTH119
    assert choice.notes == ("have no step and have not been looked at: epoch_99.pt, final.pt",)


def test_an_expression_replaces_the_known_words(there: Directory) -> None:
    there.write("rl_model_10000_steps.zip", "rl_model_9000_steps.zip", "step_3.zip")
    assert there.chosen(step_regex=r"_(\d+)_steps") == "rl_model_10000_steps.zip"
    assert there.chosen(step_regex=r"model_(?P<step>\d+)", globs=("rl_*",)) == "rl_model_10000_steps.zip"


def test_the_same_step_in_two_places_is_refused(there: Directory) -> None:
    there.write("a/step_5.pt", "b/step_5.pt", "step_4.pt")
    assert "2 candidates of step 5: a/step_5.pt, b/step_5.pt" in there.choice().problem
    there.write("c/step_6.pt", "c/step_6.json")
    assert "2 candidates of step 6: c/step_6.json, c/step_6.pt" in there.choice().problem
    assert there.chosen(globs=("c/*.pt",)) == "c/step_6.pt"


# ---------------------------------------------------------------------- what is selected


def test_best_is_a_word_of_the_name(there: Directory) -> None:
    there.write("step_5.pt", "best_step_3.pt", "best_step_4.pt")
    choice = there.choice(select="best")
    assert (os.path.basename(choice.path), choice.rule) == ("best_step_4.pt", "best")  # noqa: PTH119
    there.path.joinpath("best_step_3.pt").unlink()
    there.path.joinpath("best_step_4.pt").unlink()
    choice = there.choice(select="best")
    assert (choice.step, choice.notes) == (5, ("no name has the word best: the latest one is taken",))


def test_a_path_or_pattern_selects(there: Directory) -> None:
    there.write("last.pt", "step_5.pt", "ema/step_4.pt", "ema/step_3.pt")
    assert there.chosen(select="last.pt") == "last.pt"
    assert there.chosen(select="ema/*.pt") == "ema/step_4.pt"
    assert there.chosen(select="ema") == "ema"
    assert there.choice(select="none.pt").rule == "none"
    assert there.chosen(select="last.pt", globs=("ema/*",)) == "last.pt"


def test_a_pattern_may_mean_directories(there: Directory) -> None:
    there.write("checkpoint-2/model.bin", "checkpoint-10/model.bin", "logs/x.txt")
    (there.path / "checkpoint-11").mkdir()
    choice = there.choice(globs=("checkpoint-*",))
    assert (os.path.basename(choice.path), choice.step) == ("checkpoint-10", 10)  # noqa: PTH119
    assert choice.notes == ("is empty: checkpoint-11",)


# ---------------------------------------------------------------------- completeness


def test_incomplete_ones_do_not_count(there: Directory) -> None:
    there.write("step_1.pt", "step_2.pt", "step_1.pt.done")
    choice = there.choice(done_marker="{path}.done")
    assert (choice.step, choice.notes) == (1, ("has no done marker: step_2.pt",))
    there.write("step_3/a.pt", "step_3/b.pt", "step_4/a.pt", "step_4/b.pt", "step_3/OK")
    assert there.choice(done_marker="{path}/OK", globs=("**/*.pt",)).step == 3
    there.write("step_9.pt", content="")
    there.write("step_8.pt.tmp", "step_7.pt~")
    assert there.choice(globs=("*.pt*",)).step == 2


def test_a_file_that_still_grows_does_not_count(there: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    there.write("step_1.pt", "step_2.pt")
    with (there.path / "step_2.pt").open("a") as growing:

        def grow(_seconds: float) -> None:
            growing.write("more")
            growing.flush()

        monkeypatch.setattr("time.sleep", grow)
        choice = there.choice()
    assert (choice.step, choice.notes) == (1, ("is still being written: step_2.pt",))


@pytest.mark.parametrize(
    ("template", "path", "marker"),
    [
        ("{path}.done", "a/step_1.pt", "a/step_1.pt.done"),
        ("{dir}/DONE", "a/step_1.pt", "a/DONE"),
        ("{dir}/DONE", "step_1.pt", "DONE"),
        ("done/{name}", "a/step_1.pt", "done/step_1.pt"),
        ("../{path}", "step_1.pt", "step_1.pt"),
    ],
)
def test_markers_are_beside_what_they_mark(template: str, path: str, marker: str) -> None:
    assert marker_of(template, path) == marker


# ---------------------------------------------------------------------- the pointer


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"checkpoint": "step_1.pt"', "cannot be read as JSON"),
        ('{"step": 3}', "does not say which checkpoint"),
        ('{"checkpoint": "step_1.pt", "step": "x"}', "does not say which checkpoint"),
        ("", "does not say which checkpoint"),
        ("step_1.pt\nstep_2.pt", "does not say which checkpoint"),
        ('{"checkpoint": "../other/step_1.pt"}', "outside of"),
        ('{"checkpoint": "/etc/passwd"}', "outside of"),
        ('{"checkpoint": "empty.pt"}', "which is empty"),
        ("x" * 100_000, "larger than 64 KiB"),
    ],
)
def test_a_pointer_that_cannot_be_followed_is_an_error(there: Directory, content: str, problem: str) -> None:
    there.write("step_1.pt")
    there.write("empty.pt", content="")
    there.write("state.json", content=content)
    assert problem in there.choice(state_file="state.json").problem


def test_a_pointer_may_be_a_path_alone_or_say_that_there_is_none(there: Directory) -> None:
    there.write("global_step3/model.pt", "global_step9/model.pt")
    there.write("latest", content="global_step3\n")
    choice = there.choice(state_file="latest")
    assert (os.path.basename(choice.path), choice.step) == ("global_step3", 3)  # noqa: PTH119
    there.write("state.json", content='{"checkpoint": null}')
    assert there.choice(state_file="state.json").rule == "none"
    there.write("text.json", content=json.dumps("global_step9/model.pt"))
    assert there.choice(state_file="text.json").step == 9
    assert there.choice(state_file="missing.json").step == 9


# ---------------------------------------------------------------------- where there is none


def test_without_any_the_rules_decide(there: Directory) -> None:
    assert there.choice() == CheckpointChoice(rule="none", why="there is no checkpoint")
    assert there.choice(must_exist=True).problem.startswith("it has no checkpoint to continue from")
    there.path.rmdir()
    assert there.choice().rule == "none"
    there.path.write_text("a file")
    assert "is not a directory" in there.choice().problem


def test_a_given_start_is_taken_until_there_is_an_own_one(there: Directory, tmp_path: Path) -> None:
    start = tmp_path / "base_step_3.pt"
    start.write_text("x")
    choice = there.choice(start=str(start))
    assert (choice.path, choice.rule, choice.step) == (str(start), "start", 3)
    there.write("step_1.pt")
    assert there.chosen(start=str(start)) == "step_1.pt"
    start.unlink()
    there.path.joinpath("step_1.pt").unlink()
    assert "does not exist" in there.choice(start=str(start)).problem


def test_a_fresh_start_ignores_what_is_older(there: Directory) -> None:
    there.write("step_9.pt", at_ns=1_000)
    there.write("state.json", content='{"checkpoint": "step_9.pt"}', at_ns=2_000)
    first = there.choice(CheckpointBase(), state_file="state.json")
    assert (first.path, first.rule, first.newest_ns) == ("", "ignored", 2_000)
    later = CheckpointBase(None, first.newest_ns)
    assert there.choice(later, state_file="state.json").rule == "none"
    there.write("step_2.pt", at_ns=3_000)
    assert there.choice(later, state_file="state.json").step == 2


def test_a_named_checkpoint_settles_what_is_not_clear(there: Directory) -> None:
    there.write("a.pt", "b.pt", at_ns=1_000)
    assert there.choice().problem
    choice = there.choice(CheckpointBase("b.pt"))
    assert (choice.path, choice.problem) == (str(there.path / "b.pt"), "")
    assert there.choice(CheckpointBase("b.pt", choice.newest_ns)).path == str(there.path / "b.pt")
    assert "does not exist" in there.choice(CheckpointBase("c.pt")).problem
    assert "outside of" in there.choice(CheckpointBase("../../etc")).problem


def test_a_link_to_another_candidate_is_that_one(there: Directory) -> None:
    there.write("step_5.pt")
    (there.path / "latest.pt").symlink_to("step_5.pt")
    (there.path / "loop").symlink_to(".")
    choice = there.choice()
    assert (choice.step, choice.others, choice.notes) == (5, (), ())


def test_a_directory_of_too_many_files_is_refused(there: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MOST_ENTRIES", 2)
    there.write("step_1.pt", "step_2.pt", "step_3.pt")
    assert "has more than 2 files" in there.choice().problem


@pytest.mark.parametrize(
    ("glob", "matched", "others"),
    [
        ("*.pt", ["a.pt"], ["a/b.pt", ".a.pt", "a.ptx"]),
        ("**/*.pt", ["a.pt", "a/b.pt", "a/b/c.pt"], ["a/.b.pt", ".a/b.pt"]),
        ("**/*", ["a", "a/b"], [".a", "a/.b"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b/a"]),
        ("step_[0-9].pt", ["step_1.pt"], ["step_10.pt", "step_x.pt"]),
        ("step_[!0-9].pt", ["step_x.pt"], ["step_1.pt"]),
        ("a?c", ["abc"], ["a/c", "ac"]),
        (".hidden/*", [".hidden/a"], ["hidden/a"]),
        ("a[b", ["a[b"], ["ab"]),
    ],
)
def test_patterns_are_as_in_a_shell(glob: str, matched: list[str], others: list[str]) -> None:
    regex = glob_regex(glob)
    assert [one for one in (*matched, *others) if regex.fullmatch(one)] == matched

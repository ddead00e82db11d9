"""`skill`: copies for coding agents that merge with what is there, and skills that say what is true."""

import re
from pathlib import Path

import pytest

from protocol.diagnosis.reasons import WORDS
from sflow_ctl.cli.app import group
from sflow_ctl.format.loader import load_documents
from sflow_ctl.planner.pipeline import build_plan
from sflow_ctl.runtime.files.skills import FOLDERS, copy_skills, skills
from tests.support import sflow_ctl
from tests.unit.planner.planning import CONTEXT

NAMES = ["reading-sflow-errors", "reviewing-sflow-files", "writing-sflow-files"]


def skills_in(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/SKILL.md"))


def test_a_target_gets_all_skills_without_a_question(tmp_path: Path) -> None:
    done = sflow_ctl("skill", "-t", "claude", "-t", "codex", cwd=tmp_path)
    assert done.stdout == "✓ .claude/skills: 3 files written\n✓ .codex/skills: 3 files written\n"
    assert skills_in(tmp_path / ".claude/skills") == skills_in(tmp_path / ".codex/skills") == NAMES
    assert not (tmp_path / ".cursor").exists()


def test_all_are_all_agents(tmp_path: Path) -> None:
    assert sflow_ctl("skill", "--target", "all", cwd=tmp_path).returncode == 0
    assert {name: skills_in(tmp_path / name) for name in FOLDERS.values()} == dict.fromkeys(
        FOLDERS.values(), NAMES
    )


def test_for_all_projects_below_the_home_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = sflow_ctl("skill", "-g", "-t", "all", cwd=tmp_path, env={"HOME": str(home)})
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in home.iterdir()) == [".claude", ".codex"]
    refused = sflow_ctl("skill", "-g", "-t", "cursor", cwd=tmp_path, env={"HOME": str(home)})
    assert refused.returncode == 2
    assert "cursor has no folder for all projects" in refused.stderr


def test_a_copy_merges_and_force_replaces(tmp_path: Path) -> None:
    folder = tmp_path / ".claude/skills"
    mine, theirs = folder / NAMES[0] / "SKILL.md", folder / "other" / "SKILL.md"
    for path in (mine, theirs):
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    done = sflow_ctl("skill", "-t", "claude", cwd=tmp_path)
    assert done.returncode == 0
    assert f"2 files written\n  kept, with other content: .claude/skills/{NAMES[0]}/SKILL.md" in done.stdout
    assert (mine.read_text(), theirs.read_text()) == ("mine", "mine")
    assert "1 file written, 2 unchanged" in sflow_ctl("skill", "-t", "claude", "--force", cwd=tmp_path).stdout
    assert mine.read_text() != "mine"
    assert theirs.read_text() == "mine"
    assert "0 files written, 3 unchanged" in sflow_ctl("skill", "-t", "claude", cwd=tmp_path).stdout


def test_a_directory_needs_a_yes(tmp_path: Path) -> None:
    asked = sflow_ctl("skill", "-o", "vendor", cwd=tmp_path)
    assert (asked.returncode, (tmp_path / "vendor").exists()) == (2, False)
    assert "add -y" in asked.stderr
    assert sflow_ctl("skill", "-o", "vendor", "-y", cwd=tmp_path).returncode == 0
    assert sflow_ctl("skill", "-y", cwd=tmp_path).returncode == 0
    assert skills_in(tmp_path / "vendor") == skills_in(tmp_path / "skills") == NAMES


@pytest.mark.parametrize(
    ("options", "code"),
    [(("-g", "-y"), "needs-target"), (("-t", "claude", "-o", "x"), "conflicting-options")],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: tuple[str, ...], code: str) -> None:
    refused = sflow_ctl("skill", *options, cwd=tmp_path)
    assert refused.returncode == 2
    assert f"error[{code}]" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "vendor").write_text("a file")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / NAMES[0]).write_text("a file")
    refused = sflow_ctl("skill", "-y", "-o", "place", cwd=tmp_path)
    assert refused.returncode == 2
    assert f"place/{NAMES[0]}/SKILL.md cannot be written" in refused.stderr


def test_the_list_says_when_to_use_each(tmp_path: Path) -> None:
    listed = sflow_ctl("skill", "--list", cwd=tmp_path).stdout.splitlines()
    assert listed[::2] == NAMES
    assert all(len(line.strip()) > 60 for line in listed[1::2])


# ---------------------------------------------------------------------- what the skills say


def texts() -> str:
    return "\n".join(content.decode() for one in skills() for content in one.files.values())


def test_heads_are_those_of_skills() -> None:
    for one in skills():
        text = one.files["SKILL.md"].decode()
        assert text.startswith(f"---\nname: {one.name}\ndescription: {one.about}\n---\n\n# ")
        assert len(one.about) < 1024
        assert len(text.splitlines()) < 100


def test_the_workflow_in_the_skill_is_planned_without_a_warning(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", texts(), re.DOTALL)
    file = tmp_path / "w.yaml"
    file.write_text(block)
    plan = build_plan(load_documents([file]), CONTEXT)
    assert not plan.warnings
    assert [task.name for task in plan.tasks] == ["server", "bench_8", "bench_16"]


def test_commands_and_options_in_the_skills_exist() -> None:
    for command, words in re.findall(r"`sflow-ctl ([a-z]+)([^`]*)`", texts()):
        found = group.get_command(None, command)  # type: ignore[arg-type]
        assert found is not None, command
        known = {name for one in found.params for name in one.opts}
        for option in re.findall(r"(?<=\s)--?[a-z-]+", words):
            assert option in known, (command, option)


def test_reasons_in_the_skills_exist() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", texts(), re.MULTILINE)
    words = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
    assert words
    assert words <= WORDS


def test_copies_are_whole(tmp_path: Path) -> None:
    known = skills()
    copied = copy_skills(known, tmp_path, is_forced=False)
    assert copied.written == sum(len(one.files) for one in known)

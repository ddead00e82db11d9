"""Work that reaches a task by an option, another file, a setting or another host is compared like that of the file itself."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import command, sflow_ctl

HEAD = """version: "0.1"
variables: {V: "1"}
artifacts: [{name: DATA, uri: file://data.txt}]
operators: [{name: base, type: python, python_exec: python3}, {name: mine, extends: base}]
workflow:
  name: w
  tasks:
"""
USES_DATA = "    - {name: a, %s script: ['cat $DATA; echo $V >> a.count']}\n"
OF_MINE = "    - {name: a, operator: mine, script: [\"open('a.count', 'a').write('x\\\\n')\"]}\n"
LAST = "    - {name: last, depends_on: [a], script: [test -e go]}\n"


def first(tmp_path: Path, task: str, *options: str) -> None:
    (tmp_path / "w.yaml").write_text(HEAD + task + LAST)
    for name, content in (("data.txt", "1"), ("other.txt", "2")):
        (tmp_path / name).write_text(content)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", *options, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    (tmp_path / "go").touch()


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(tmp_path: Path) -> None:
        text = (tmp_path / "w.yaml").read_text()
        assert old in text
        (tmp_path / "w.yaml").write_text(text.replace(old, new))

    return change


def write(name: str, content: str) -> Callable[[Path], None]:
    def change(tmp_path: Path) -> None:
        (tmp_path / name).write_text(content)

    return change


def nothing(_: Path) -> None:
    pass


MISSABLE = USES_DATA % "depends_on: [maybe],"
PLAIN = USES_DATA % ""
CHANGED_OPERATOR = edit("python_exec: python3", "python_exec: python")
RENAMED = edit("base", "base2")
APPEARS = edit("    - {name: last", "    - {name: maybe, script: ['true']}\n    - {name: last")
CASES: dict[str, tuple[str, tuple[str, ...], Callable[[Path], None], tuple[str, ...], str]] = {
    "missable-option-is-remembered": (MISSABLE, ("-M", "maybe"), nothing, (), ""),
    "missable-task-appears": (MISSABLE, ("-M", "maybe"), APPEARS, (), "its dependencies changed"),
    "artifact-option-is-remembered": (PLAIN, ("-a", "DATA=file://other.txt"), nothing, (), ""),
    "artifact-of-option-changes": (
        PLAIN, ("-a", "DATA=file://other.txt"), write("other.txt", "3"), (), "the content of its artifact DATA changed",
    ),
    "artifact-that-the-option-replaced-changes": (
        PLAIN, ("-a", "DATA=file://other.txt"), write("data.txt", "9"), (), "",
    ),
    "another-artifact-option": (
        PLAIN, (), nothing, ("-a", "DATA=file://other.txt"), "its artifact DATA changed from",
    ),
    "variable-option-is-remembered": (PLAIN, ("--set", "V=2"), nothing, (), ""),
    "another-variable-option": (
        PLAIN, ("--set", "V=2"), nothing, ("--set", "V=3"), "its environment variable V changed from 2 to 3",
    ),
    "operator-that-is-extended-changes": (OF_MINE, (), CHANGED_OPERATOR, (), "its program changed from python3"),
    "operator-that-is-extended-is-renamed": (OF_MINE, (), RENAMED, (), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_r4_work_that_comes_from_options_and_other_files_is_compared(tmp_path: Path, case: str) -> None:
    task, options, change, resume_options, reason = CASES[case]
    first(tmp_path, task, *options)
    change(tmp_path)
    done = sflow_ctl("run", "w.yaml", "--resume", "r", *resume_options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((tmp_path / "a.count").read_text().split()) == (2 if reason else 1)
    assert (f"a runs again: {reason}" if reason else "kept: a") in done.stderr, done.stderr


def test_r4_settings_of_another_site_and_another_environment_make_no_other_work(tmp_path: Path) -> None:
    first(tmp_path, PLAIN)
    (tmp_path / "site.yaml").write_text("lost_after: 77\nheadroom: 50\n")
    env = {"SFLOW_SITE_FILE": str(tmp_path / "site.yaml"), "SOMETHING": "else"}
    done = sflow_ctl("run", "--resume", "r", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kept: a" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="a host name needs root")
def test_n3_a_resume_on_another_host_keeps_what_names_only_its_place(tmp_path: Path) -> None:
    first(
        tmp_path,
        PLAIN.replace("$V", "$V $SFLOW_TASK_ASSIGNED_NODE_NAMES ${{ backends.local.nodes[0].name }}"),
    )
    before = (tmp_path / "a.count").read_text()
    moved = tmp_path / "moved"
    moved.mkdir()
    for one in ("w.yaml", "data.txt", "a.count", "go", "sflow_output"):
        (tmp_path / one).rename(moved / one)
    (moved / "boot").write_text("another\n")
    script = 'hostname elsewhere && mount --bind boot /proc/sys/kernel/random/boot_id && exec "$@"'
    done = subprocess.run(
        ["unshare", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh",
         *command("run", "--resume", "r")],
        cwd=moved, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kept: a" in done.stderr
    assert (moved / "a.count").read_text() == before

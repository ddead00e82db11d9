"""`sample`: the examples are there wherever the program is, and a copy runs."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import EXAMPLES, ROOT, sflow_ctl

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


def test_the_list_names_each_with_its_first_comment(tmp_path: Path) -> None:
    listed = sflow_ctl("sample", "list", cwd=tmp_path)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == NAMES
    (hello,) = [line for line in listed.stdout.splitlines() if line.startswith("hello ")]
    assert hello.split(maxsplit=1) == ["hello", "The smallest workflow: one task, one line."]
    for short in (("sample",), ("sample", "--list")):
        assert sflow_ctl(*short, cwd=tmp_path).stdout == listed.stdout


def test_show_prints_the_file(tmp_path: Path) -> None:
    assert sflow_ctl("sample", "show", "sweep", cwd=tmp_path).stdout == (EXAMPLES / "sweep.yaml").read_text()


def test_a_copy_runs(tmp_path: Path) -> None:
    assert sflow_ctl("sample", "copy", "hello", cwd=tmp_path).stdout == "✓ Saved to hello.yaml\n"
    ran = sflow_ctl("run", "hello.yaml", cwd=tmp_path)
    assert ran.returncode == 0
    assert "hello, world, from" in ran.stdout


def test_both_spellings_copy_and_neither_replaces_a_file_unasked(tmp_path: Path) -> None:
    for words in (("sample", "hello.yaml"), ("sample", "copy", "hello")):
        target = tmp_path / "mine.yaml"
        target.write_text("mine")
        refused = sflow_ctl(*words, "-o", "mine.yaml", cwd=tmp_path)
        assert refused.returncode == 2
        assert "error[file-exists]: mine.yaml exists already" in refused.stderr
        assert target.read_text() == "mine"
        forced = sflow_ctl(*words, "-o", "mine.yaml", "--force", cwd=tmp_path)
        assert forced.returncode == 0
        assert target.read_text() == (EXAMPLES / "hello.yaml").read_text()


def test_a_directory_takes_the_copy(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    assert sflow_ctl("sample", "-o", "work", "redis", cwd=tmp_path).stdout == "✓ Saved to work/redis.yaml\n"


def test_an_unknown_name_gets_the_nearest_and_the_list(tmp_path: Path) -> None:
    for words in (("sample", "swep"), ("sample", "show", "swep"), ("sample", "copy", "swep")):
        done = sflow_ctl(*words, cwd=tmp_path)
        assert done.returncode == 2
        assert 'did you mean "sweep"? available samples: ' + ", ".join(NAMES) in done.stderr


def test_a_wheel_has_them_too(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("protocol", "sflow_agent", "sflow_ctl", "examples"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps"]
    build += ["--no-build-isolation", "-w", str(tmp_path), str(source)]
    built = subprocess.run(build, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    shutil.unpack_archive(wheel, installed, "zip")
    shown = sflow_ctl("sample", "show", "diamond", cwd=tmp_path, env={"PYTHONPATH": str(installed)})
    assert shown.stdout == (EXAMPLES / "diamond.yaml").read_text(), shown.stderr
    listed = sflow_ctl("skill", "--list", cwd=tmp_path, env={"PYTHONPATH": str(installed)})
    assert "writing-sflow-files" in listed.stdout, listed.stderr
    where = subprocess.run(
        [sys.executable, "-c", "import sflow_ctl; print(sflow_ctl.__file__)"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(installed))  # else the checkout's files were shown

"""Modules of the user that are called like ours or like our dependencies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = 'raise ImportError("the wrong module was imported")\n'
WORKFLOW = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: [echo "path=$PYTHONPATH"]}]}\n'
NAMES = ("protocol", "click", "yaml", "zmq", "jinja2", "msgspec", "rich", "parse", "sflow_agent")


@pytest.fixture
def user_modules(tmp_path: Path) -> Path:
    """A folder of packages that cannot be imported, as a project of the user's may have one of its own."""
    folder = tmp_path / "modules"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(BROKEN)
    (tmp_path / "wf.yaml").write_text(WORKFLOW)
    return folder


def run(argv: list[str], cwd: Path, python_path: str) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "PYTHONPATH": python_path}
    return subprocess.run(argv, cwd=cwd, env=environ, capture_output=True, text=True, timeout=60)


COMMANDS = {
    "command": [str(Path(sys.executable).with_name("sflow-ctl"))],
    "module": [sys.executable, "-m", "sflow_ctl"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_public_13_modules_on_pythonpath_are_not_imported_and_tasks_get_it(
    command: list[str], user_modules: Path, tmp_path: Path
) -> None:
    done = run([*command, "run", "wf.yaml"], tmp_path, str(user_modules))
    assert done.returncode == 0, done.stderr
    assert f"path={user_modules}" in done.stdout


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("python_path", [":", "", "/nonexistent:.", ".:"])
def test_public_13_modules_in_the_working_directory_are_not_imported(
    command: list[str], python_path: str, user_modules: Path, tmp_path: Path
) -> None:
    (user_modules / "wf.yaml").write_text(WORKFLOW)
    done = run([*command, "plan", "wf.yaml"], user_modules, python_path)
    assert done.returncode == 0, done.stderr


def test_public_13_the_agent_is_as_safe(user_modules: Path, tmp_path: Path) -> None:
    (user_modules / "sflow_agent" / "__init__.py").unlink()
    (user_modules / "sflow_agent").rmdir()
    agent = str(Path(sys.executable).with_name("sflow-agent"))
    done = run([agent], tmp_path, str(user_modules))
    assert "wrong module" not in done.stderr
    assert "Traceback" not in done.stderr

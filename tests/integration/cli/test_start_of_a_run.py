"""What a run imports and starts before its first task: its cost is that of every small run.

Modules are counted, not seconds.
"""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from sflow_ctl.runtime import agent_process
from sflow_ctl.runtime.agent_process import start_early

WORKFLOW = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["true"]}]}\n'
OURS = ("protocol", "sflow_agent", "sflow_ctl")
MOST_CONTROLLER, MOST_AGENT = 412, 116
"""Modules of ours, with those that a controller imports while it has nothing to do. A run that needs more of them needs a reason:
each costs about 0.3 ms. 27 make the report, after the tasks. Those of the local link came in place of pyzmq's, four of an
agent save the start of bash."""
MOST_SINGLE_FILES = 20
"""Modules whose code is read before, or in order to read, the file with the code of all."""
HEAVY = (
    "ast", "asyncio", "click", "concurrent.futures", "ctypes.util", "dataclasses", "difflib", "email", "h11", "http",
    "huggingface_hub", "inspect", "jinja2", "logging", "multiprocessing", "parse", "psutil", "pydantic", "pynvml", "re2", "rich",
    "shutil", "sqlite3", "ssl", "statistics", "subprocess", "tempfile", "textual", "tokenize", "traceback",
    "typing_extensions", "urllib.request", "xml", "zmq",
)  # fmt: skip
OF_MEASURED_TASKS = ("sflow_ctl.report.monitor", "sflow_ctl.report.run_report.usage")
"""Imported at the end where a task was measured, which one that has just begun may be or not."""
FOR_CONTROLLERS_ONLY, FOR_AGENTS_ONLY = ("yaml",), ("socket",)
LIST_AT_EXIT = """
import atexit, json, sys
single = []
sys.addaudithook(lambda event, given: event == "open" and str(given[0]).endswith(".pyc") and single.append(given[0]))
def write():
    import importlib, yaml
    from sflow_ctl.runtime.run.preload import _ALWAYS
    for name in _ALWAYS:  # how many of them a short run imports is a matter of time
        importlib.import_module(name)
    is_compiled = True
    try:
        type(yaml.reader.Reader.NON_PRINTABLE).search.__get__(yaml.reader.Reader.NON_PRINTABLE)
    except AttributeError:
        is_compiled = False
    with open("modules.json", "w") as file:
        json.dump([sorted(sys.modules), is_compiled, single], file)
atexit.register(write)
sys.argv = ["sflow-ctl", "run", "wf.yaml", "--quiet"]
from sflow_ctl.__main__ import main
main()
"""


def ours(modules: list[str]) -> list[str]:
    return [name for name in modules if name.split(".")[0] in OURS]


def plain_environment() -> dict[str, str]:
    """Return the environment of a user for whom nothing is special: Python writes caches, the command line has no other half."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "SFLOW_", "SLURM_"))
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wf.yaml").write_text(WORKFLOW)
    return tmp_path


def test_a_run_of_one_task_imports_nothing_heavy(folder: Path) -> None:
    environ = plain_environment()
    command = [sys.executable, "-I", "-c", LIST_AT_EXIT]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    modules, is_compiled, _ = json.loads((folder / "modules.json").read_text())
    assert [name for name in (*HEAVY, *FOR_AGENTS_ONLY) if name in modules] == []
    assert len([name for name in ours(modules) if not name.startswith(OF_MEASURED_TASKS)]) <= MOST_CONTROLLER
    assert not is_compiled, "PyYAML's pattern of characters was compiled, or is not ours any more"


def test_an_agent_imports_nothing_heavy(tmp_path: Path) -> None:
    listing = (
        "import json, sys, sflow_agent.guarding.guardian; from protocol.machine.lean_msgspec import import_msgspec;"
        "import_msgspec(); import sflow_agent.agent; print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", listing], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    modules = json.loads(done.stdout)
    assert [name for name in (*HEAVY, *FOR_CONTROLLERS_ONLY) if name in modules] == []
    assert len(ours(modules)) <= MOST_AGENT


def test_measurements_that_are_not_published_import_nothing_heavy(tmp_path: Path) -> None:
    listing = (
        "import json, sys; from protocol.machine.lean_msgspec import import_msgspec; import_msgspec();"
        "import sflow_ctl.runtime.telemetry.recorder; print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", listing], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert [name for name in HEAVY if name in json.loads(done.stdout)] == []


def test_the_second_run_opens_one_file_for_the_code_of_all_modules(folder: Path) -> None:
    environ = plain_environment()
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", LIST_AT_EXIT], cwd=folder, env=environ, capture_output=True, check=True
        )
    _, _, single = json.loads((folder / "modules.json").read_text())
    assert len(single) <= MOST_SINGLE_FILES, single


@pytest.mark.parametrize(
    ("words", "environ", "starts"),
    [
        ("run wf.yaml", {}, True),
        ("--debug run", {"PATH": "/bin"}, True),
        ("run wf.yaml --dry-run", {}, False),
        ("run --help", {}, False),
        ("-h", {}, False),
        ("", {}, False),
        ("plan run", {}, False),
        ("run wf.yaml", {"SLURM_JOB_ID": "1"}, False),
        ("run wf.yaml", {"OMPI_COMM_WORLD_SIZE": "2"}, False),
    ],
)
def test_an_agent_is_started_early_only_where_it_is_likely_to_be_used(
    words: str, environ: dict[str, str], starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def spawn() -> agent_process.AgentProcess:
        started.append("agent")
        return agent_process.AgentProcess(1, -1, -1, -1, -1)

    monkeypatch.setattr(agent_process, "spawn_agent", spawn)
    start_early(words.split(), environ)
    assert (started == ["agent"]) == starts
    assert len(agent_process.take_early()) == starts
    assert agent_process.take_early() == []


def test_an_agent_that_cannot_be_started_early_is_left_to_the_launcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spawn() -> agent_process.AgentProcess:
        raise BlockingIOError("too many processes")

    monkeypatch.setattr(agent_process, "spawn_agent", spawn)
    start_early(["run"], {})
    assert agent_process.take_early() == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["run", "--no-such-option"], 2),
        (["run", "wf.yaml", "--skip-dependencies"], 2),
        (["run", "missing.yaml"], 2),
        (["run", "wf.yaml", "-q"], 0),
    ],
)
def test_nothing_of_a_command_is_left_when_it_has_ended(
    arguments: list[str], status: int, folder: Path
) -> None:
    ours_end, theirs = os.pipe()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    command = [str(Path(sys.executable).with_name("sflow-ctl")), *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, timeout=60, pass_fds=[theirs]
    )
    os.close(theirs)
    assert done.returncode == status, done.stderr
    readable, _, _ = select.select([ours_end], [], [], 0)
    assert readable, "a process that the command has started still has the other end of the pipe"
    os.close(ours_end)

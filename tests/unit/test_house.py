"""Keeps the limits of `CONTRIBUTING.md`: sizes of functions, classes, files and folders, and one meaning per class name.

Reads the source of the three packages as text; imports nothing of it.
"""

import ast
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("protocol", "sflow_agent", "sflow_ctl")
MAX_FUNCTION_LINES = 60
"""Of a function's body, without its docstring."""
MAX_CLASS_LINES = 300
MAX_FILE_LINES = 400
MAX_TEST_NAME = 80
"""Letters of a test's name: the fault tables and the output of pytest stay readable."""
MAX_FOLDER_MODULES = 15
"""Without `__init__.py`."""

SHARED_NAMES: dict[str, str] = {
    "Dependency": "one of the file's `depends_on`, and what the plan has of it",
    "Launcher": "the file's `launcher`, and what the plan has of it",
    "Probe": "a probe of the file, and the one of an agent that is made from it",
    "Restart": "the file's `restart`, and what the plan has of it",
    "Retries": "the file's `retries`, and what the plan has of it",
    "Run": "the scheduler's data of a run, and a run for programs",
    "Signature": "a signature of the file, and the one of an agent that is made from it",
    "Stop": "the file's `stop`, and the order that carries it out: each a heading of its own reference",
    "Success": "the file's `success`, and what an agent checks of it",
    "Task": "a task of the file, and the scheduler's record of it",
    "WakeUp": "the same event of the two cores, which never import each other",
    "Workflow": "the file's section, and a workflow that a program builds",
}
"""Public class names that several modules define, each with the reason."""


def modules() -> Iterator[Path]:
    """Yield every module of the three packages."""
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


@cache
def trees() -> tuple[tuple[str, ast.Module], ...]:
    """Return the path and syntax tree of every module."""
    return tuple(
        (str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))) for path in modules()
    )


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines from the first statement after the docstring to the function's last line."""
    body = function.body
    first = body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        body = body[1:]
    if not body:
        return 0
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_functions_are_short() -> None:
    too_long = [
        f"{path}:{node.lineno} {node.name}: {body_lines(node)} lines"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > MAX_FUNCTION_LINES
    ]
    assert not too_long, f"over {MAX_FUNCTION_LINES} lines:\n" + "\n".join(too_long)


def test_classes_are_short() -> None:
    too_long = [
        f"{path}:{node.lineno} {node.name}: {lines} lines"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_CLASS_LINES
    ]
    assert not too_long, f"over {MAX_CLASS_LINES} lines:\n" + "\n".join(too_long)


def test_files_are_short() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in modules()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES
    ]
    assert not too_long, f"over {MAX_FILE_LINES} lines:\n" + "\n".join(too_long)


def test_folders_are_small() -> None:
    sizes = Counter(str(path.parent.relative_to(ROOT)) for path in modules() if path.name != "__init__.py")
    too_large = {folder: size for folder, size in sizes.items() if size > MAX_FOLDER_MODULES}
    assert not too_large, f"over {MAX_FOLDER_MODULES} modules: {too_large}"


def test_a_public_class_name_has_one_meaning() -> None:
    homes = defaultdict(list)
    for path, tree in trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path)
    several = {name: paths for name, paths in homes.items() if len(paths) > 1 and name not in SHARED_NAMES}
    assert not several, f"rename one, or give the reason in SHARED_NAMES: {several}"


def test_names_of_tests_are_short() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {len(node.name)} letters"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and len(node.name) > MAX_TEST_NAME
    ]
    assert not too_long, f"over {MAX_TEST_NAME} letters:\n" + "\n".join(too_long)


@pytest.mark.parametrize("name", sorted(SHARED_NAMES))
def test_a_shared_name_is_still_shared(name: str) -> None:
    homes = [
        path
        for path, tree in trees()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    assert len(homes) > 1, f"{name} is defined in {homes} only: remove it from SHARED_NAMES"


def test_a_wheel_holds_every_folder() -> None:
    folders = {
        str(file.parent.relative_to(ROOT)).replace("/", ".")
        for package in PACKAGES
        for file in (ROOT / package).rglob("__init__.py")
    }
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])
    data = {"sflow_ctl.samples", "sflow_ctl.presets", "sflow_ctl.skills", "sflow_ctl.templates"}
    assert listed - data == folders, "correct packages in pyproject.toml"


TERMINAL_WRITERS = {
    "sflow_ctl/cli/terminal/lines.py": "the one way for lines, tables, errors and documents",
    "sflow_ctl/cli/terminal/stream.py": "the console's thread: bytes that `line_prefix.py` and `printable` have made",
    "sflow_ctl/cli/commands/logs.py": "bytes that `line_prefix.py` has made; of one task to a pipe, or with --raw, its log",
    "sflow_ctl/cli/app.py": "`--version`: our own text",
    "sflow_ctl/cli/reference.py": "the reference of the command line, for the documents: our own text",
}
"""Modules that may write to standard output or standard error of a command, each with what it writes."""
OTHER_WRITERS = {
    "sflow_ctl/planner/launch/python/python_shim.py": "it is run as a task, and its output is the task's",
    "sflow_ctl/runtime/artifacts/child_process.py": "a report on a pipe to our own process",
    "sflow_ctl/runtime/slurm/allocation_guard.py": "words on a pipe to our own process",
    "sflow_ctl/runtime/logs/consumers/gang.py": "a log file",
    "sflow_ctl/runtime/logs/side_logs.py": "a log file",
    "sflow_ctl/runtime/record/durable.py": "files",
    "sflow_ctl/runtime/supervision/supervisor.py": "our own words, of a process that imports nothing",
    "sflow_ctl/runtime/supervision/detaching.py": "its own words and the run's, of such a process as well",
    "sflow_ctl/runtime/peers/blocked_end.py": "our own words, where nothing else of the process answers",
    "sflow_ctl/runtime/fleet/local.py": "the pipe of an agent's configuration",
}
_WRITING = {
    "click.echo",
    "click.secho",
    "click.print",
    "print",
    "os.write",
    "error.show",
    "traceback.print_exc",
}
_STREAMS = ("sys.stdout.", "sys.stderr.", "sys.__stdout__.", "sys.__stderr__.")


def writing_calls(tree: ast.Module) -> Iterator[str]:
    """Yield the calls of a module that write to a stream or descriptor, as text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in _WRITING or (called.startswith(_STREAMS) and "write" in called):
                yield called


def test_s3_only_the_modules_of_the_terminal_write_to_it() -> None:
    allowed = TERMINAL_WRITERS.keys() | OTHER_WRITERS.keys()
    found = {
        path: calls
        for path, tree in trees()
        if path.startswith("sflow_ctl/")
        if (calls := set(writing_calls(tree)))
    }
    found.pop("sflow_ctl/cli/app.py", None)  # error.show() writes into a text there; --version is ours
    assert {path: calls for path, calls in found.items() if path not in allowed} == {}
    assert sorted(allowed - found.keys() - {"sflow_ctl/cli/app.py"}) == []


def test_threads_leave_signals_to_the_main_thread() -> None:
    """A signal that another thread takes is not seen while the main thread waits for a file: `QuietThread` says why."""
    loud = [
        f"{path}:{node.lineno}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("Thread", "threading.Thread", "threading.Timer", "Timer")
    ]
    assert not loud, f"use protocol.machine.loop_signals.QuietThread: {loud}"

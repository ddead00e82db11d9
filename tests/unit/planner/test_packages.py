"""Snapshots of Python packages: what is in their digests, where tasks look for them, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from protocol.errors import UsageError
from sflow_ctl.plan.artifact_mentions import PlannedArtifactUse
from sflow_ctl.plan.same_work import Work, difference
from sflow_ctl.planner.context import PackageError
from sflow_ctl.runtime.files.packages import described, keep_packages
from sflow_ctl.runtime.record.sources import package_source
from tests.unit.planner.planning import findings_of, plan_of


@pytest.fixture
def lib(tmp_path: Path) -> Path:
    """A folder with a package, caches and a module."""
    package = tmp_path / "lib/mylib"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("VALUE = 1\n")
    (package / "__pycache__/x.pyc").write_text("cache")
    (tmp_path / "lib/tool.py").write_text("VALUE = 2\n")
    return tmp_path / "lib"


def test_packages_folders_and_modules_are_different_kinds(lib: Path) -> None:
    found = [described(one) for one in (lib, lib / "mylib", lib / "tool.py")]
    assert [(one.kind, one.files) for one in found] == [("folder", 2), ("package", 1), ("module", 1)]
    folder, package, module = (one.import_path.removeprefix(".sflow/packages/") for one in found)
    assert (folder, len(package), len(module)) == (f"{found[0].sha256[:16]}/lib", 16, 16)


def test_a_digest_is_of_names_and_contents_without_caches(lib: Path) -> None:
    before = described(lib).sha256
    (lib / "mylib/__pycache__/y.pyc").write_text("other")
    (lib / ".git").mkdir()
    (lib / ".git/HEAD").write_text("x")
    assert described(lib).sha256 == before
    (lib / "tool.py").rename(lib / "tools.py")
    renamed = described(lib).sha256
    (lib / "tools.py").write_text("VALUE = 3\n")
    assert len({before, renamed, described(lib).sha256}) == 3


def test_a_snapshot_is_kept_once_and_does_not_follow_its_source(lib: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / ".sflow").mkdir(parents=True)
    package = described(lib / "mylib")
    keep_packages([package], run)
    (lib / "mylib/__init__.py").write_text("VALUE = 7\n")
    keep_packages([package], run)
    assert (run / package.place / "__init__.py").read_text() == "VALUE = 1\n"
    assert [one.name for one in (run / package.place).iterdir()] == ["__init__.py"]


def test_a_package_that_changes_before_it_is_kept_is_refused(lib: Path, tmp_path: Path) -> None:
    package = described(lib / "mylib")
    (lib / "mylib/__init__.py").write_text("VALUE = 7\n")
    with pytest.raises(UsageError, match="is not what it was when the run was planned"):
        keep_packages([package], tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.py"))


def test_what_a_resumed_run_has_recorded_counts(lib: Path) -> None:
    package = described(lib / "mylib")
    (lib / "mylib/__init__.py").write_text("VALUE = 7\n")
    assert package_source([package])(package.source) == package
    assert package_source([])(package.source) != package


@pytest.mark.parametrize(
    ("name", "text"), [("gone", "No such file or directory"), ("data.csv", "not a .py file")]
)
def test_what_is_not_a_package_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "data.csv").write_text("")
    with pytest.raises(PackageError, match=text):
        described(tmp_path / name)


def there(folder: Path) -> dict[str, Any]:
    """Return the context of a workspace."""
    return {"workspace_dir": str(folder), "package_of": package_source([])}


def workflow(task: str, head: str = "") -> str:
    return f"workflow:\n  name: w\n{head}  tasks:\n    t: {{script: [x], {task}}}\n"


def test_tasks_look_in_snapshots_first(lib: Path, tmp_path: Path) -> None:
    text = workflow("packages: lib/mylib, variables: {PYTHONPATH: /mine}", "  packages: [lib/tool.py]\n")
    plan = plan_of(tmp_path, text, **there(tmp_path))
    package, tool = plan.packages
    places = [f"/out/run/{one.import_path}" for one in (package, tool)]
    env = plan.tasks[0].env
    assert env["PYTHONPATH"] == ":".join([*places, "/mine"])
    assert env["SFLOW_PYTHON_PACKAGES"] == ":".join(places)
    without = plan_of(
        tmp_path,
        workflow("packages: [lib]"),
        workspace_dir=str(tmp_path),
        package_of=package_source([]),
        python_path="/his",
    )
    assert without.tasks[0].env["PYTHONPATH"].endswith("/lib:/his")
    assert "PYTHONPATH" not in plan_of(tmp_path, workflow("timeout: 3")).tasks[0].env


def test_another_content_is_other_work_and_says_which_package(lib: Path, tmp_path: Path) -> None:
    def work() -> Work:
        plan = plan_of(
            tmp_path,
            workflow("packages: lib/mylib"),
            workspace_dir=str(tmp_path),
            package_of=package_source([]),
        )
        return Work(plan.tasks[0], PlannedArtifactUse(plan))

    first = work()
    assert difference(first, work()) is None
    (lib / "mylib/__init__.py").write_text("VALUE = 7\n")
    assert difference(first, work()) == "its package mylib changed"


def test_a_wrong_package_is_refused_at_its_place(lib: Path, tmp_path: Path) -> None:
    (finding,) = findings_of(tmp_path, workflow("packages: gone"), **there(tmp_path))
    assert (
        finding.what
        == f'task "t" has the package "gone": {tmp_path}/gone cannot be read: No such file or directory'
    )
    assert finding.hint == "name a folder or a .py file"
    (tmp_path / "other/mylib").mkdir(parents=True)
    twice = workflow("packages: [lib/mylib, other/mylib]")
    (finding,) = findings_of(tmp_path, twice, **there(tmp_path))
    assert finding.what.startswith('task "t" has two packages called "mylib"')

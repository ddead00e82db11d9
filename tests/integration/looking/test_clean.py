"""`clean`: what it shows, what it deletes, and what it never touches."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sflow_ctl.report.looking.run_list import RunEntry
from sflow_ctl.runtime.catalog.cleaning import delete, removal_of, spools_of
from tests.support import Run, sflow_ctl, wait_until

SHORT = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["echo hi"]}]}\n'


@pytest.fixture
def old(tmp_path: Path) -> list[Path]:
    """Three runs that have ended, copies of one."""
    run = Run.start(SHORT, tmp_path, run_id="old1")
    assert run.finish()[0] == 0
    for name in ("old2", "old3"):
        shutil.copytree(run.directory, run.directory.with_name(name), copy_function=shutil.copy2)
        for number, one in enumerate(("run", "summary")):
            path = run.directory.with_name(name) / f".sflow/{one}.json"
            data = json.loads(path.read_text())
            data["run_id"] = name
            data["started_wall_ns"] += int(name[-1]) * 1_000_000 + number
            path.write_text(json.dumps(data))
            stamp = 1_700_000_000 + int(name[-1])
            os.utime(path, (stamp, stamp))
    os.utime(run.directory / ".sflow/run.json", (1_700_000_000, 1_700_000_000))
    return [run.directory.with_name(f"old{number}") for number in (1, 2, 3)]


def answer(cwd: Path, *words: str) -> dict[str, Any]:
    done = sflow_ctl("clean", "--json", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    whole: dict[str, Any] = json.loads(done.stdout)
    return whole


def test_the_newest_are_kept_and_the_rest_is_shown_first(old: list[Path], tmp_path: Path) -> None:
    shown = sflow_ctl("clean", "--keep", "1", "--dry-run", cwd=tmp_path)
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["RUN", "old2", "old1"]
    refused = sflow_ctl("clean", "--keep", "1", cwd=tmp_path)
    assert refused.returncode == 2
    assert "error[not-a-terminal]" in refused.stderr
    assert all(run.is_dir() for run in old)
    dry = answer(tmp_path, "--keep", "1")
    assert (dry["version"], dry["is_dry_run"], len(dry["removed"])) == (1, True, 2)
    done = sflow_ctl("clean", "--keep", "1", "-y", cwd=tmp_path)
    assert done.stdout.splitlines()[-1].startswith("deleted 2 runs, ")
    assert sorted(one.name for one in old[0].parent.iterdir()) == ["old3"]
    assert sflow_ctl("clean", "--keep", "1", "-y", cwd=tmp_path).stdout == "nothing to delete\n"
    registry = Path(os.environ["XDG_STATE_HOME"], "sflow/runs")
    assert not list(registry.glob("old1.*"))


def test_an_age_keeps_what_is_younger(old: list[Path], tmp_path: Path) -> None:
    assert answer(tmp_path, "--older", "1h", "--yes")["removed"] == []
    assert len(answer(tmp_path, "--older", "0", "--keep", "2", "--yes")["removed"]) == 1
    assert not old[0].exists()
    neither = sflow_ctl("clean", cwd=tmp_path)
    assert neither.returncode == 2
    assert "clean needs --keep or --older" in neither.stderr


def test_live_runs_fresh_deaths_and_unreadable_ones_stay(live: Run, old: list[Path], tmp_path: Path) -> None:
    (old[1] / ".sflow/summary.json").unlink()
    (old[1] / ".sflow/plan.json").write_text("{")
    report = answer(tmp_path, "--keep", "0", "--yes")
    assert sorted(one["run_id"] for one in report["removed"]) == ["old1", "old3"]
    assert any(line.startswith("live stays: controller pid") for line in report["kept"])
    assert any(line.startswith("old2 stays: it is unreadable") for line in report["kept"])
    assert live.directory.is_dir()
    live.kill_both()
    live.process.wait()
    dead = answer(tmp_path, "--keep", "0", "--yes")
    assert dead["removed"] == []
    assert any("live stays: it died" in line for line in dead["kept"]) or live.directory.is_dir()


def test_a_run_that_became_live_meanwhile_is_not_deleted(live: Run) -> None:
    entry = RunEntry(run_id="live", directory=str(live.directory), state="completed", ended_wall_ns=1)
    assert delete(removal_of(entry)) == f"{live.directory} is live now"
    assert live.directory.is_dir()


def test_spools_and_rests_of_deleted_runs_go_too(old: list[Path], tmp_path: Path) -> None:
    marker = json.loads((old[0] / ".sflow/run.json").read_text())["marker"]
    spools = tmp_path / "spools"
    spool = spools / f"sflow-{os.getuid()}-{marker}-0"
    spool.mkdir(parents=True, mode=0o700)
    (spools / f"sflow-{os.getuid()}-other-0123abcd-0").mkdir()
    (found,) = spools_of([str(old[0])], spools)
    assert (found.path, found.kind) == (str(spool), "spool")
    assert delete(found) == ""
    assert [one.name for one in spools.iterdir()] == [f"sflow-{os.getuid()}-other-0123abcd-0"]
    (old[0].parent / ".x.deleting").mkdir()
    (old[0].parent / ".y.building").mkdir()
    report = answer(tmp_path, "--keep", "3", "--yes")
    assert [(one["kind"], Path(one["path"]).name) for one in report["removed"]] == [("rest", ".x.deleting")]
    assert (old[0].parent / ".y.building").exists(), "it may be in the making"


def test_a_link_to_a_run_is_left_alone(old: list[Path], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    old[0].rename(moved)
    old[0].symlink_to(moved)
    done = sflow_ctl("clean", "--keep", "0", "-y", cwd=tmp_path)
    assert done.returncode == 3
    assert "is a link" in done.stderr
    assert (moved / ".sflow/run.json").is_file()


def test_a_full_name_of_an_earlier_deletion_is_no_obstacle(old: list[Path], tmp_path: Path) -> None:
    rest = old[2].with_name(f".{old[2].name}.deleting")
    rest.mkdir()
    (rest / "x").write_text("")
    assert sflow_ctl("clean", "--keep", "0", "-y", cwd=tmp_path).returncode == 0
    wait_until(lambda: not any(old[0].parent.iterdir()), "all is gone")

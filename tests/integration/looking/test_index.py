"""The index of runs: lists with it are lists without it, whatever happens to the index."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import sflow_ctl

WORKFLOW = """version: "0.1"
variables: {lr: 1}
sweep: {axes: {lr: [1, 2]}}
workflow:
  name: %s
  labels: {team: vision}
  tasks:
    - name: train
      script: ["echo loss $lr; test $lr = 1"]
      outputs: [{pattern: "loss {loss:g}"}]
      labels: {stage: train}
    - {name: eval, script: ["true"], depends_on: [train]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs that have failed."""
    place = tmp_path_factory.mktemp("made")
    for name in ("one", "two", "three"):
        (place / "w.yaml").write_text(WORKFLOW % name)
        assert command(place, "run", "w.yaml", "--run-id", name).returncode == 1
    shutil.rmtree(place / "state")
    return place


@pytest.fixture
def place(tmp_path: Path, made: Path) -> Path:
    """A copy of these runs, and settings that ask for an index."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "sflow").mkdir()
    (tmp_path / "sflow" / "config.yaml").write_text("index: sqlite\n")
    return tmp_path


def command(place: Path, *words: str, index: bool = True) -> "subprocess.CompletedProcess[str]":
    config = str(place) if index else str(place / "nowhere")
    return sflow_ctl(
        *words, cwd=place, env={"XDG_CONFIG_HOME": config, "XDG_STATE_HOME": str(place / "state")}
    )


def listed(place: Path, *words: str, index: bool = True) -> Any:
    done = command(place, "ps", *words, "--json", index=index)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def refreshed(place: Path, verb: str = "refresh") -> tuple[int, int]:
    done = command(place, "index", verb, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["runs"], found["read"]


LISTS = (
    ["-a"],
    ["--query", "state=failed,label.team=vi*"],
    ["--tasks", "task=*"],
    ["--tasks", "state=failed,cell=lr=2"],
    ["--tasks", "state=unfinished", "--tasks", "label.stage=train,state=completed"],
    ["--query", "workflow=t*", "--tasks", "task=tra[a-z]n"],
)


def test_lists_are_the_same_with_and_without_an_index(place: Path) -> None:
    for words in LISTS:
        assert listed(place, *words) == listed(place, *words, index=False), words
    index = place / "state" / "sflow" / "index.sqlite"
    assert index.stat().st_mode & 0o777 == 0o600
    assert len(listed(place, "--tasks", "state=failed")["tasks"]) == 3
    assert refreshed(place) == (3, 0), "nothing has changed"
    (one,) = listed(place, "--query", "run=two", "--tasks", "label.stage=train,cell=lr=1")["tasks"]
    assert (one["task"], one["state"], one["values"]) == ("train_lr-1", "completed", {"loss": 1.0})
    table = command(place, "ps", "--tasks", "state=failed").stdout
    assert "3 tasks of 3 runs" in table


def test_a_run_that_changes_is_read_anew_and_a_deleted_one_forgotten(place: Path) -> None:
    assert refreshed(place) == (3, 3)
    assert command(place, "rerun", "two", "--set", "tasks.train.script=echo loss 7").returncode == 0
    assert refreshed(place) == (3, 1)
    assert [one["run_id"] for one in listed(place, "--tasks", "state=failed")["tasks"]] == ["three", "one"]
    assert command(place, "clean", "--keep", "1", "-y").returncode == 0
    assert {one["run_id"] for one in listed(place, "--tasks", "task=*")["tasks"]} == {"two"}
    assert refreshed(place, "rebuild") == (1, 1)


def test_nothing_is_lost_with_the_index(place: Path) -> None:
    expected = listed(place, "--tasks", "task=*")
    index = place / "state" / "sflow" / "index.sqlite"
    for damage in (b"", b"not a database" * 100, index.read_bytes()[:3000] + b"\xff" * 3000):
        index.write_bytes(damage)
        done = command(place, "ps", "--tasks", "task=*", "--json")
        assert json.loads(done.stdout) == expected, damage[:20]
        index.unlink()
        assert listed(place, "--tasks", "task=*") == expected


def test_many_processes_use_it_at_once(place: Path) -> None:
    expected = listed(place, "--tasks", "task=*", index=False)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(place), "XDG_STATE_HOME": str(place / "state")}
    words = [sys.executable, "-m", "sflow_ctl", "ps", "--tasks", "task=*", "--json"]
    many = [
        subprocess.Popen(words, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(6)
    ]
    for one in many:
        out, err = one.communicate(timeout=60)
        assert (json.loads(out), err) == (expected, b"")


def test_exports_of_a_query_are_those_of_the_runs(place: Path) -> None:
    assert command(place, "export", "--query", "workflow=t*", "-o", "q.csv").returncode == 0
    assert command(place, "export", "three", "two", "-o", "n.csv").returncode == 0
    assert (place / "q.csv").read_text() == (place / "n.csv").read_text()
    assert (place / "q.csv").read_text().count("\n") == 9
    refused = command(place, "export", "three", "--query", "state=failed")
    assert refused.returncode == 2
    assert "name runs, or give --query, not both" in refused.stderr


def test_unknown_words_are_refused_and_no_index_is_said(place: Path) -> None:
    for with_index in (True, False):
        refused = command(place, "ps", "--tasks", "reason=nonsense", index=with_index)
        assert refused.returncode == 2
        assert 'there is no value "nonsense" of reason' in refused.stderr
    refused = command(place, "index", "refresh", index=False)
    assert refused.returncode == 2
    assert "write index: sqlite" in refused.stderr


def test_a_file_system_whose_locks_lie_is_refused_and_lists_work(place: Path) -> None:
    (place / "sflow" / "config.yaml").write_text("index: sqlite\nindex_file: /proc/self/index.sqlite\n")
    done = command(place, "ps", "-a", "--json")
    assert len(json.loads(done.stdout)["runs"]) == 3
    assert "warning: no index of runs: /proc/self/index.sqlite is on proc" in done.stderr
    assert "name a file on a local disk" in done.stderr
    assert command(place, "index", "rebuild").returncode == 2

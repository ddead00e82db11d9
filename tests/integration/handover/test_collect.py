"""`outputs` and `collect`: what they list and gather of a run, and what they refuse."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import sflow_ctl

WORKFLOW = """version: "0.1"
workflow:
  name: w
  tasks:
    train:
      replicas: 2
      script: |
        cd "$SFLOW_TASK_OUTPUT_DIR"; mkdir -p model/sub
        echo "weights $SFLOW_REPLICA_INDEX" > a.pt; echo x > model/sub/x; echo '{"n": 3}' > "$SFLOW_OUTPUTS_FILE"
        echo "rate = 5.5"
      outputs:
        - {pattern: "rate = {rate:f}"}
        - {name: ckpt, path: a.pt}
        - {name: model, kind: dir, path: model}
        - {name: all, kind: manifest, path: "**/*"}
        - {name: n, type: int}
    bad: {script: ["exit 1"], depends_on: [train], outputs: {o: {path: x}}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("run")
    (cwd / "w.yaml").write_text(WORKFLOW)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=cwd)
    assert done.returncode == 1, done.stdout + done.stderr
    return cwd


def listed(cwd: Path, *options: str) -> list[dict[str, Any]]:
    done = sflow_ctl("outputs", "r", "--json", *options, cwd=cwd)
    assert done.returncode == 0, done.stderr
    outputs: list[dict[str, Any]] = json.loads(done.stdout)["outputs"]
    return outputs


def collect(cwd: Path, *options: str, status: int = 0) -> str:
    done = sflow_ctl("collect", "r", *options, cwd=cwd)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def files(directory: Path) -> list[str]:
    return sorted(str(one.relative_to(directory)) for one in directory.rglob("*") if one.is_file())


def test_outputs_of_completed_tasks_are_listed(finished: Path) -> None:
    found = listed(finished)
    assert [(one["task"], one["name"], one["kind"]) for one in found[:5]] == [
        ("train_0", "ckpt", "file"),
        ("train_0", "model", "dir"),
        ("train_0", "all", "manifest"),
        ("train_0", "n", "param"),
        ("train_0", "rate", "value"),
    ]
    assert {one["task"] for one in found} == {"train_0", "train_1"}
    assert found[0]["bytes"] == 10
    assert len(found[0]["sha256"]) == 64
    assert found[3]["value"] == 3


def test_tasks_names_and_queries_choose(finished: Path) -> None:
    assert {one["task"] for one in listed(finished, "train_1")} == {"train_1"}
    assert {one["name"] for one in listed(finished, "--name", "[cn]*")} == {"ckpt", "n"}
    assert listed(finished, "--query", "state=failed") == []


def test_an_unknown_task_or_output_is_refused(finished: Path) -> None:
    done = sflow_ctl("outputs", "r", "trian", cwd=finished)
    assert done.returncode == 2
    assert 'has no task "trian"' in done.stderr
    assert 'did you mean "train"?' in done.stderr
    done = sflow_ctl("outputs", "r", "--name", "x", cwd=finished)
    assert "there is no output x" in done.stderr
    assert "outputs: all, ckpt, model, n, rate" in done.stderr


def test_files_are_copied_with_a_manifest(finished: Path, tmp_path: Path) -> None:
    said = collect(finished, "--to", str(tmp_path / "c"), "--name", "ckpt", "--name", "model")
    assert "✓ Collected 4 outputs, 4 files: " in said
    assert files(tmp_path / "c") == [
        "manifest.json",
        "train_0/ckpt/a.pt",
        "train_0/model/sub/x",
        "train_1/ckpt/a.pt",
        "train_1/model/sub/x",
    ]
    manifest = json.loads((tmp_path / "c/manifest.json").read_text())
    first = manifest["outputs"][0]
    assert (first["task"], first["files"][0]["path"]) == ("train_0", "train_0/ckpt/a.pt")
    source = Path(first["files"][0]["source"])
    assert not source.samefile(tmp_path / "c/train_0/ckpt/a.pt")


def test_what_is_collected_again_is_kept_and_added_to(finished: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "c")
    collect(finished, "train_0", "--to", target, "--name", "ckpt")
    said = collect(finished, "--to", target, "--name", "ckpt")
    assert "2 files (1 there already)" in said
    manifest = json.loads((tmp_path / "c/manifest.json").read_text())
    assert [one["task"] for one in manifest["outputs"]] == ["train_0", "train_1"]


def test_links_are_hard_links(finished: Path, tmp_path: Path) -> None:
    collect(finished, "--to", str(tmp_path / "c"), "--name", "ckpt", "--link")
    source = finished / "sflow_output/r/train_0/a.pt"
    assert source.samefile(tmp_path / "c/train_0/ckpt/a.pt")


def test_another_file_is_never_replaced(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "c/train_0/ckpt").mkdir(parents=True)
    (tmp_path / "c/train_0/ckpt/a.pt").write_text("mine")
    said = collect(finished, "--to", str(tmp_path / "c"), status=2)
    assert "is there already, with another content: " in said
    assert files(tmp_path / "c") == ["train_0/ckpt/a.pt"], "nothing else was written"


def test_another_run_is_not_mixed_in(finished: Path, tmp_path: Path) -> None:
    collect(finished, "--to", str(tmp_path / "c"))
    text = (tmp_path / "c/manifest.json").read_text()
    (tmp_path / "c/manifest.json").write_text(text.replace('"run_id": "r"', '"run_id": "other"'))
    said = collect(finished, "--to", str(tmp_path / "c"), status=2)
    assert "has what was collected of run other" in said


def test_a_file_that_has_changed_is_not_collected(finished: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(finished / "sflow_output", copied / "sflow_output")
    outputs = copied / "sflow_output/r/train_0/outputs.json"
    text = outputs.read_text().replace(str(finished), str(copied))
    outputs.write_text(text)
    (copied / "sflow_output/r/train_0/a.pt").write_text("other dat\n")
    said = collect(copied, "train_0", "--to", str(tmp_path / "c"), status=2)
    assert (
        f"cannot be collected: {copied}/sflow_output/r/train_0/a.pt: it has changed since it was recorded"
        in said
    )
    assert not (tmp_path / "c").exists()

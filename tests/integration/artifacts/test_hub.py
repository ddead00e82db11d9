"""Snapshots of a hub, by the hub's own library, from a hub on loopback and from a cache alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import ArtifactError, Finding
from tests.integration.artifacts.fetching import cached, fetch
from tests.integration.artifacts.model_hub import COMMIT, ModelHub, Repository
from tests.support import command, controller_of, wait_until

FILES = {"config.json": b"{}", "weights/a[1].bin": os.urandom(2_000_000), "weights/b.bin": b"b" * 1000}


@pytest.fixture
def model_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    """A hub that the library is pointed to, with an empty cache."""
    made = ModelHub()
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", made.server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    yield made
    made.server.close()


def refusal(workspace: Path, uri: str) -> Finding:
    """The only finding of a fetch that must fail."""
    with pytest.raises(ArtifactError) as raised:
        fetch(workspace, {"M": uri})
    (finding,) = raised.value.findings
    assert finding.what.startswith(f'Failed to download artifact "M": {uri}: ')
    assert finding.hint
    assert cached(workspace) == []
    return finding


def test_a_whole_model_comes_once(model_hub: ModelHub, tmp_path: Path) -> None:
    model_hub.repositories["org/m"] = Repository(FILES)
    paths, (came,) = fetch(tmp_path, {"M": "hf://org/m"})
    assert {name: (paths["M"] / name).read_bytes() for name in FILES} == FILES
    assert came.received_bytes == came.total_bytes == sum(map(len, FILES.values()))
    assert (tmp_path / "hf" / "hub" / "models--org--m").is_dir()
    before = len(model_hub.server.seen)
    assert fetch(tmp_path, {"M": "huggingface://org/m"}) == (paths, [])
    assert len(model_hub.server.seen) == before


def test_a_part_of_a_pinned_dataset(model_hub: ModelHub, tmp_path: Path) -> None:
    model_hub.repositories["org/d"] = Repository(FILES, kind="datasets", branches=("main", "v1"))
    uris = {
        "FILE": "hf://datasets/org/d@v1/weights/a%5B1%5D.bin",
        "ALL": f"hf://datasets/org/d@{COMMIT}/weights",
    }
    paths, _ = fetch(tmp_path, uris)
    assert paths["FILE"].read_bytes() == FILES["weights/a[1].bin"]
    assert sorted(path.name for path in paths["ALL"].iterdir()) == ["a[1].bin", "b.bin"]
    assert not (paths["ALL"].parent / "config.json").exists()


def test_a_dropped_connection_is_gone_on_with(model_hub: ModelHub, tmp_path: Path) -> None:
    content = os.urandom(1_000_000) * 25  # the library keeps pieces of 10 MiB
    model_hub.repositories["org/m"] = Repository({"w.bin": content}, cuts=[22_000_000])
    paths, _ = fetch(tmp_path, {"M": "hf://org/m"})
    assert (paths["M"] / "w.bin").read_bytes() == content
    assert [seen.range for seen in model_hub.server.seen if seen.range] == ["bytes=20971520-"]


def test_missing_repositories_and_files(model_hub: ModelHub, tmp_path: Path) -> None:
    model_hub.repositories["org/m"] = Repository(FILES)
    assert "model org/other does not exist, or is private" in refusal(tmp_path, "hf://org/other").what
    assert "model org/m has no revision v9" in refusal(tmp_path, "hf://org/m@v9").what
    assert "org/m has no nothing.bin" in refusal(tmp_path, "hf://org/m/nothing.bin").what


def test_a_token_opens_a_private_model(
    model_hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_hub.repositories["org/m"] = Repository(FILES, token="hf_secret")
    assert "HF_TOKEN" in str(refusal(tmp_path, "hf://org/m").hint)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    paths, _ = fetch(tmp_path, {"M": "hf://org/m"})
    assert (paths["M"] / "config.json").read_bytes() == b"{}"


def test_offline_the_cache_is_enough(
    model_hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "hf" / "hub" / "models--org--m"
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    (repository / "snapshots" / COMMIT / "config.json").write_text("cached")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    paths, _ = fetch(tmp_path, {"M": "hf://org/m", "F": f"hf://org/m@{COMMIT}/config.json"})
    assert (paths["M"] / "config.json").read_text() == paths["F"].read_text() == "cached"
    assert model_hub.server.seen == []


def test_offline_without_a_cache(
    model_hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    finding = refusal(tmp_path, "hf://org/m")
    assert "cached snapshot" in finding.what
    assert "HF_HUB_OFFLINE" in str(finding.hint)


def test_without_the_library_the_message_names_the_package(
    model_hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An interpreter to which the package is as good as not installed.
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable} -I\nimport runpy, sys\n"
        "sys.modules['huggingface_hub'] = None\n"
        "del sys.argv[:3]\nrunpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    finding = refusal(tmp_path, "hf://org/m")
    assert "huggingface_hub is not installed" in finding.what
    assert "pip install 'sflow-ctl[hf]'" in str(finding.hint)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_the_librarys_process_ends_with_the_run(
    number: signal.Signals, status: int, model_hub: ModelHub, tmp_path: Path
) -> None:
    model_hub.repositories["org/m"] = Repository(FILES)
    answer = model_hub.server.answer
    held = []

    def hold(request: object) -> None:
        held.append(request)
        wait_until(lambda: process.poll() is not None, "the run has ended")
        answer(request)  # type: ignore[arg-type]

    model_hub.server.answer = hold
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nartifacts: {M: {uri: "hf://org/m"}}\n'
        "workflow: {name: w, tasks: [{name: a, script: [x]}]}\n"
    )
    process = subprocess.Popen(
        command("run", "w.yaml"), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: held, "the library has asked")
    (library,) = library_processes(controller_of(process.pid))
    os.kill(process.pid, number)
    assert process.wait(30) == status
    wait_until(lambda: not Path(f"/proc/{library}").exists(), "the library's process is gone")
    assert cached(tmp_path) == []


def library_processes(parent: int) -> list[int]:
    """Children of a process that run the hub's library."""
    tasks = Path(f"/proc/{parent}/task").iterdir()
    children = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return [pid for pid in children if b"hub_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def interrupt(home: Path) -> None:
    """Leave of a download what one that was interrupted leaves: the branch, the snapshot, one file. No list of files."""
    cache = home / "hf" / "hub" / "models--org--m"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    snapshot = cache / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes(FILES["config.json"])


@pytest.mark.parametrize("how", ["offline", "no network"])
def test_l5_a_snapshot_that_the_hub_has_not_confirmed_is_a_warning_and_is_not_kept(
    model_hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    interrupt(tmp_path)
    with monkeypatch.context() as without:
        if how == "offline":
            without.setenv("HF_HUB_OFFLINE", "1")
        else:
            without.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        for _ in range(2):  # the second run must not take the first one's link for whole
            paths, (came,) = fetch(tmp_path, {"M": "hf://org/m"})
            assert came.is_warning
            assert "may be incomplete" in came.sentence()
            assert (paths["M"] / "config.json").exists()
    model_hub.repositories["org/m"] = Repository(FILES)
    paths, (came,) = fetch(tmp_path, {"M": "hf://org/m"})
    assert not came.is_warning
    assert {name: (paths["M"] / name).read_bytes() for name in FILES} == FILES
    assert fetch(tmp_path, {"M": "hf://org/m"}) == (paths, [])


def test_l5_an_interrupted_download_is_completed(model_hub: ModelHub, tmp_path: Path) -> None:
    interrupt(tmp_path)
    model_hub.repositories["org/m"] = Repository(FILES)
    paths, (came,) = fetch(tmp_path, {"M": "hf://org/m"})
    assert not came.is_warning
    assert (paths["M"] / "weights" / "b.bin").exists()

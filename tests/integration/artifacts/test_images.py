"""Container images: found, pulled when missing, and a warning without a runtime.

The runtimes are small programs of the test, because pulling needs a registry; one test asks a real podman.
"""

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from protocol.errors import ArtifactError
from tests.integration.artifacts.fetching import fetch
from tests.support import is_alive, wait_until

URI = {"I": "docker://host:5000/a/b:1"}


def stand_in(folder: Path, name: str, body: str) -> Path:
    """A program that notes how it was called; returns where."""
    calls = folder / f"{name}.calls"
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "$*" >> {calls}\n{body}\n')
    program.chmod(0o755)
    return calls


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory where programs are looked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_without_a_runtime_it_is_a_warning(programs: Path, tmp_path: Path) -> None:
    _, (came,) = fetch(tmp_path, URI)
    assert came.is_warning
    assert "neither docker nor podman answers on this machine" in came.sentence()


def test_an_image_that_is_here_is_not_pulled(programs: Path, tmp_path: Path) -> None:
    calls = stand_in(programs, "docker", "exit 0")
    _, (came,) = fetch(tmp_path, URI)
    assert calls.read_text().splitlines() == ["info", "image inspect host:5000/a/b:1"]
    assert came.sentence() == "artifact I is present in docker"


def test_a_missing_image_is_pulled_by_the_runtime_that_answers(programs: Path, tmp_path: Path) -> None:
    stand_in(programs, "docker", "exit 1")  # a client without its daemon
    calls = stand_in(programs, "podman", '[ "$1" != image ]')
    _, (came,) = fetch(tmp_path, URI)
    assert calls.read_text().splitlines()[-1] == "pull host:5000/a/b:1"
    assert "was pulled by podman" in came.sentence()


def test_an_image_that_cannot_be_pulled(programs: Path, tmp_path: Path) -> None:
    stand_in(programs, "docker", 'if [ "$1" = info ]; then exit 0; fi; echo "no such manifest" >&2; exit 1')
    with pytest.raises(ArtifactError) as raised:
        fetch(tmp_path, URI)
    (finding,) = raised.value.findings
    assert finding.what == f'Failed to download artifact "I": {URI["I"]}: docker pull: no such manifest'
    assert "docker login" in str(finding.hint)


def test_a_pull_ends_with_the_process_that_has_started_it(programs: Path) -> None:
    """However that ends: a controller that is killed can do nothing about it."""
    stand_in(programs, "docker", f"echo $$ > {programs}/pid; exec /bin/sleep 600")
    start = "import subprocess, sys, time; from sflow_ctl.runtime.artifacts.images import _PULL; "
    start += "subprocess.Popen(['/bin/bash', '-c', _PULL, 'x', *sys.argv[1:]], stdin=subprocess.PIPE); time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", start, programs / "docker", "pull", "i"])
    pid = programs / "pid"
    wait_until(lambda: pid.exists() and pid.read_text(), "it pulls")
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_alive(int(pid.read_text())), "the pull has ended")


def podman_works() -> bool:
    """True where rootless or root podman can be used at all."""
    return shutil.which("podman") is not None and (
        subprocess.run(["podman", "info"], capture_output=True, check=False, timeout=60).returncode == 0
    )


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_a_real_runtime_knows_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not podman_works():
        pytest.skip("podman cannot be used here")
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("empty"), io.BytesIO())
    image = f"localhost/sflow-test-{tmp_path.name.replace('_', '-')}:1"
    subprocess.run(["podman", "import", tmp_path / "image.tar", image], check=True, capture_output=True)
    try:
        (tmp_path / "bin").mkdir()
        podman = shutil.which("podman")
        assert podman is not None
        (tmp_path / "bin" / "podman").symlink_to(podman)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/sbin:/sbin")
        _, (came,) = fetch(tmp_path, {"I": f"docker://{image}"})
        assert came.sentence() == "artifact I is present in podman"
    finally:
        subprocess.run([podman or "podman", "rmi", image], check=False, capture_output=True)

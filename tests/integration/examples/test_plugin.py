"""The example package of plug-ins, installed as any package is, in real runs."""

import contextlib
import json
import os
import shutil
import signal
import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import EXAMPLES, sflow_ctl, wait_until

WORKFLOW = EXAMPLES / "plugin" / "workflow.yaml"
SLOW = """
import os, pathlib, time

class Slow:
    def exists(self, uri):
        return True

    def fetch(self, uri, dest):
        print("what a plug-in prints is not an answer")
        pathlib.Path(dest).write_bytes(b"half")
        pathlib.Path(os.environ["STARTED"]).touch()
        time.sleep(600)

    def push(self, path, uri):
        raise OSError("the store is read-only")
"""


class Installation:
    """An environment of sflow-ctl with packages of plug-ins."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        (self.packages,) = (folder / "lib").glob("python3*/site-packages")

    def run(self, *arguments: str | Path, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [self.python, "-m", "sflow_ctl", *arguments],
            cwd=cwd,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The environment of the tests, the example package, and one more plug-in."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    made = Installation(folder / "venv")
    own = next(path for path in site.getsitepackages() if Path(path).is_dir())
    (made.packages / "tests.pth").write_text(f"import site; site.addsitedir({own!r})\n")
    source = folder / "source"
    shutil.copytree(EXAMPLES / "plugin", source)
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target")
    subprocess.run([*pip, made.packages, source], check=True, capture_output=True)
    (made.packages / "slow_store.py").write_text(SLOW)
    metadata = made.packages / "slow_store-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-store\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[sflow_ctl.artifact_schemes]\nslow = slow_store:Slow\n")
    return made


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The environment of runs, and a vault with three words in it."""
    vault = tmp_path / "vault"
    vault.mkdir()
    (vault / "words.txt").write_text("a b c\n")
    return {"VAULT_DIRECTORY": str(vault), "STARTED": str(tmp_path / "started")}


def test_operator_probe_artifact_and_storage_of_one_package(
    tmp_path: Path, installed: Installation, variables: dict[str, str]
) -> None:
    done = installed.run("run", WORKFLOW, "--run-id", "r", cwd=tmp_path, env=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "artifact WORDS: 6 B from vault://words.txt" in done.stdout
    assert "[count] priority 5, level 5" in done.stdout
    assert (tmp_path / "vault" / "results" / "count.txt").read_text() == "3\n"
    again = installed.run("run", WORKFLOW, "--run-id", "s", cwd=tmp_path, env=variables)
    assert again.returncode == 0
    assert "Fetching" not in again.stdout


SPOOLED = """version: "0.1"
backends: [{name: spool, type: plugin, plugin: spool, options: {directory: DIRECTORY}, every: 0.2s}]
workflow:
  name: w
  tasks:
    one: {script: ['echo "{\\"n\\": 4}" > $SFLOW_OUTPUTS_FILE; echo from the job'], outputs: {n: {type: int}}}
    two: {inputs: {n: {from: one.outputs.n}}, script: ['exit $INPUT_N'], on_failure: continue}
"""


def test_tasks_are_jobs_of_its_backend(
    tmp_path: Path, installed: Installation, variables: dict[str, str]
) -> None:
    (tmp_path / "w.yaml").write_text(SPOOLED.replace("DIRECTORY", str(tmp_path / "jobs")))
    done = installed.run("run", "w.yaml", "--run-id", "r", cwd=tmp_path, env=variables)
    assert "[one] from the job" in done.stdout, done.stdout + done.stderr
    assert "[two] sflow: submitted as job " in done.stdout
    ends = installed.run("status", "r", "--json", cwd=tmp_path, env=variables).stdout
    assert {one["name"]: one["exit_code"] for one in json.loads(ends)["tasks"]} == {"one": 0, "two": 4}
    assert len(list((tmp_path / "jobs").glob("*.json"))) == 2


def test_a_wrong_option_of_a_backend_is_the_cause_of_the_failure(
    tmp_path: Path, installed: Installation, variables: dict[str, str]
) -> None:
    (tmp_path / "w.yaml").write_text(SPOOLED.replace("DIRECTORY", "relative"))
    done = installed.run("run", "w.yaml", "--run-id", "r", cwd=tmp_path, env=variables)
    assert done.returncode == 1
    said = "plug-in spool of sflow-ctl-example 1.0: ValueError: options need a directory, as an absolute path"
    assert said in done.stdout + done.stderr


def test_what_the_store_does_not_have(
    tmp_path: Path, installed: Installation, variables: dict[str, str]
) -> None:
    (tmp_path / "vault" / "words.txt").unlink()
    done = installed.run("run", WORKFLOW, "--run-id", "r", cwd=tmp_path, env=variables)
    assert done.returncode != 0
    assert 'Failed to download artifact "WORDS": vault://words.txt: it does not exist' in done.stderr
    assert list((tmp_path / ".sflow_cache" / "artifacts").iterdir()) == []


def test_an_exception_of_a_plug_in_is_the_cause(
    tmp_path: Path, installed: Installation, variables: dict[str, str]
) -> None:
    del variables["VAULT_DIRECTORY"]
    done = installed.run("run", WORKFLOW, "--run-id", "r", cwd=tmp_path, env=variables)
    assert "plug-in vault of sflow-ctl-example 1.0: KeyError: 'VAULT_DIRECTORY'" in done.stderr


def test_a_wrong_option_is_found_before_anything_runs(
    tmp_path: Path, installed: Installation, variables: dict[str, str]
) -> None:
    done = installed.run(
        "run", WORKFLOW, "--set", "operators.gently.options.level=50", cwd=tmp_path, env=variables
    )
    assert done.returncode == 2, done.stderr
    assert "level is 50, and has to be a number from 1 to 19" in done.stderr
    assert "workflow.yaml" in done.stderr
    assert not (tmp_path / "sflow_output").exists()


def test_without_the_package_the_name_and_those_installed_are_said(tmp_path: Path) -> None:
    done = sflow_ctl("validate", WORKFLOW, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    said = done.stdout + done.stderr
    assert 'no installed package has "vault" among its artifact schemes' in said
    assert "installed: s3" in said


def workflow_with(uri: str, more: str = "") -> str:
    return (
        f'version: "0.1"\nartifacts: [{{name: A, uri: "{uri}", fetch: true{more}}}]\n'
        'workflow: {name: w, tasks: [{name: t, script: ["ls -R $A; cat $A || true"]}]}\n'
    )


def test_a_directory_and_its_files_come_whole(
    tmp_path: Path, installed: Installation, variables: dict[str, str]
) -> None:
    (tmp_path / "vault" / "d" / "e").mkdir(parents=True)
    (tmp_path / "vault" / "d" / "e" / "f").write_text("x")
    (tmp_path / "w.yaml").write_text(workflow_with("vault://d"))
    done = installed.run("run", "w.yaml", cwd=tmp_path, env=variables)
    assert done.returncode == 0, done.stderr
    (place,) = (tmp_path / ".sflow_cache" / "artifacts").iterdir()
    assert (place / "e" / "f").read_text() == "x"


def test_a_file_with_another_checksum_is_not_kept(
    tmp_path: Path, installed: Installation, variables: dict[str, str]
) -> None:
    (tmp_path / "w.yaml").write_text(workflow_with("vault://words.txt", f", sha256: '{'0' * 64}'"))
    done = installed.run("run", "w.yaml", cwd=tmp_path, env=variables)
    assert done.returncode != 0
    assert "its SHA-256 is " in done.stderr
    assert list((tmp_path / ".sflow_cache" / "artifacts").iterdir()) == []


def test_a_plug_in_that_hangs_ends_with_the_run(
    tmp_path: Path, installed: Installation, variables: dict[str, str]
) -> None:
    (tmp_path / "w.yaml").write_text(workflow_with("slow://x"))
    run = subprocess.Popen(
        [installed.python, "-m", "sflow_ctl", "run", "w.yaml", "--run-id", "r"],
        cwd=tmp_path,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until((tmp_path / "started").exists, "the plug-in to begin")
    assert _fetchers(tmp_path)
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130
    wait_until(lambda: not _fetchers(tmp_path), "the end of the plug-in's process")
    assert list((tmp_path / ".sflow_cache" / "artifacts").iterdir()) == []


def _fetchers(folder: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes()
            if b"plugin_process" in words and str(folder).encode() in words:
                found.append(process.name)
    return found


def test_an_upload_that_a_plug_in_refuses_is_said(
    tmp_path: Path, installed: Installation, variables: dict[str, str]
) -> None:
    text = (
        'version: "0.1"\nstorage: [{name: s, type: plugin, uri: "slow://place"}]\n'
        "workflow: {name: w, tasks: [{name: t, script: ['echo x > $SFLOW_TASK_OUTPUT_DIR/a'], "
        "uploads: [{target: s, from: a, on_error: fail}]}]}\n"
    )
    (tmp_path / "w.yaml").write_text(text)
    done = installed.run("run", "w.yaml", cwd=tmp_path, env=variables)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "plug-in slow of slow-store 1.0: OSError: the store is read-only" in done.stdout + done.stderr

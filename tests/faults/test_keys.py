"""What a task can read of the run's keys, and what they are good for: S4, S10, S11."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.fake_slurm import FakeSlurm
from tests.faults.test_slurm_launch import log, run
from tests.support import ROOT, command, sflow_ctl

THIEF = f"PYTHONPATH={ROOT} {sys.executable} -m tests.faults.key_thief"


def test_s4_what_a_task_finds_in_sruns_environment_opens_nothing(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    status, output = run(
        slurm, f"    - {{name: t, resources: {{nodes: {{count: 1}}}}, script: ['{THIEF} {tmp_path}']}}\n"
    )
    assert status == 0, output
    line = log(slurm).splitlines()[-1]
    seen = json.loads(line[line.index("{") :])
    assert seen["found"], "srun has the configuration: the test looks in the right place"
    assert seen["secrets"] == []
    assert set(seen["answers"]) == {"node 0: 0 bytes", "node 1: 0 bytes"}
    said = (tmp_path / "sflow_output/r/sflow.log").read_text()
    assert "connections with a void key" in said


def test_s4_no_key_of_a_local_run_is_in_an_environment_or_command_line(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        f'version: "0.1"\nworkflow: {{name: w, tasks: [{{name: t, script: ["{THIEF} {tmp_path}"]}}]}}\n'
    )
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    seen = json.loads((tmp_path / "sflow_output/r/t/t.log").read_text())
    assert seen == {"found": [], "answers": [], "secrets": []}


def test_s11_a_link_in_the_place_of_the_nonce_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (tmp_path / "sflow_output").mkdir()
    (tmp_path / "sflow_output/.r.nonce").symlink_to(victim)
    status, output = run(FakeSlurm(tmp_path), "    - {name: t, script: ['true']}\n")
    assert status == 0, output
    assert victim.read_text() == "theirs"
    assert not (tmp_path / "sflow_output/.r.nonce").is_symlink()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_s10_a_task_of_the_same_user_cannot_read_the_controllers_memory(tmp_path: Path) -> None:
    """Without capabilities: root's would open everything."""
    look = (
        "for p in /proc/[0-9]*; do grep -qz sflow_ctl $p/cmdline 2>/dev/null || continue; "
        "grep -qzFx r-secret $p/cmdline || continue; "
        "for f in mem environ maps; do (exec 3<$p/$f && head -c 1 <&3 >/dev/null) 2>/dev/null && echo open $p/$f; done; "
        "readlink $p/fd/0 >/dev/null 2>&1 && echo open $p/fd; echo looked at $p; done; true"
    )
    document = {"version": "0.1", "workflow": {"name": "w", "tasks": [{"name": "t", "script": [look]}]}}
    (tmp_path / "w.yaml").write_text(json.dumps(document))
    dropped = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")
    done = subprocess.run(
        [*dropped, *command("run", "w.yaml", "--run-id", "r-secret")],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = (tmp_path / "sflow_output/r-secret/t/t.log").read_text()
    assert "looked at /proc/" in said
    assert "open" not in said


EVERYTHING = """    - name: t
      operator: two
      retries: {count: 1, interval: 0}
      files: {in/f.txt: {content: "x", mode: "0600"}}
      outputs: [{pattern: "rate = {rate}"}]
      script: ["echo rate = 5; [ $SFLOW_ATTEMPT = 2 ]"]
    - {name: u, script: ["echo u"], depends_on: [t]}
    - name: service
      script: ["echo up; sleep 600"]
      probes: {readiness: {log_watch: {regex_pattern: "up"}, interval: 1}}
      stop: {command: "echo stopping; exit 1"}
"""


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_s6_every_file_of_a_run_is_private(tmp_path: Path, umask: int) -> None:
    check_modes(tmp_path, umask)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_s8_spooled_logs_have_the_mode_of_all_others(tmp_path: Path, umask: int) -> None:
    check_modes(tmp_path, umask, "--log-spool", "spool")


def check_modes(tmp_path: Path, umask: int, *options: str) -> None:
    """Run something of everything: logs of several attempts, of gangs, of stop commands, files and results."""
    slurm = FakeSlurm(tmp_path)
    old = os.umask(umask)
    try:
        workflow = slurm.workflow(EVERYTHING).replace("{one:", "{two: {type: srun, ntasks: 2}, one:")
        slurm.workflow = lambda tasks: workflow + tasks  # type: ignore[method-assign]
        status, output = run(slurm, "", *options)
    finally:
        os.umask(old)
    assert status == 0, output
    directory = tmp_path / "sflow_output/r"
    modes = {
        str(path.relative_to(directory)): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in directory.rglob("*")
    }
    expected = {name: "0o700" if (directory / name).is_dir() else "0o600" for name in modes}
    assert modes == expected
    assert oct(stat.S_IMODE(directory.stat().st_mode)) == "0o700"
    names = {Path(name).name for name in modes}
    assert {"t.log", "t.attempt-1.log", "u.log", "service.stop.log", "outputs.json", "results.csv"} <= names

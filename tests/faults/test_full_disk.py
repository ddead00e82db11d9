"""A disk that is full at each stage of a run, for real: a small tmpfs in a mount namespace of its own."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

RUN = f"{sys.executable} -m sflow_ctl run --output-dir disk --run-id r"


def _has_namespaces() -> bool:
    program = shutil.which("unshare")
    if program is None:
        return False
    try_it = [program, "-Urm", "sh", "-c", "mount -t tmpfs none /mnt"]
    return subprocess.run(try_it, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _has_namespaces(), reason="needs user and mount namespaces")


def on_disk(tmp_path: Path, size: str, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a shell script in which `disk` is a file system of so many bytes.

    Afterwards its files are in `kept`, but for those that only fill it.
    """
    (tmp_path / "disk").mkdir(exist_ok=True)
    (tmp_path / "kept").mkdir()
    whole = f"mount -t tmpfs -o size={size} none disk || exit 99\n{script}\nstatus=$?\n"
    whole += "rm -f disk/fill disk/r/fill\ncp -a disk/. kept/\nexit $status"
    return subprocess.run(
        ["unshare", "-Urm", "bash", "-c", whole],
        cwd=tmp_path,
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def workflow(tmp_path: Path, *tasks: str) -> None:
    listed = "\n".join(f"    - {task}" for task in tasks)
    (tmp_path / "w.yaml").write_text(f'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n{listed}\n')


FILL = "head -c 64m /dev/zero > disk/fill 2>/dev/null || true"
SAYS_FULL = re.compile(r"file system is full \(\S*/disk\)")


def no_bug(done: "subprocess.CompletedProcess[str]") -> str:
    output = done.stdout + done.stderr
    assert "bug" not in output, output
    assert "error[internal]" not in output, output
    assert "Traceback" not in output, output
    return output


def test_r5_a_run_cannot_begin_on_a_full_disk(tmp_path: Path) -> None:
    workflow(tmp_path, "{name: a, script: [echo a]}")
    done = on_disk(tmp_path, "200k", f"{FILL}; {RUN} w.yaml")
    output = no_bug(done)
    assert done.returncode == 3, output
    assert "error[disk-full]" in output, output
    assert SAYS_FULL.search(output), output
    assert [path.name for path in (tmp_path / "kept").iterdir()] == []  # nothing half made


def test_r6_a_disk_that_tasks_fill_ends_the_run_with_its_report(tmp_path: Path) -> None:
    fill = "{name: %s, depends_on: [ok], script: ['head -c 64m /dev/zero > $SFLOW_WORKFLOW_OUTPUT_DIR/fill']}"
    later = "{name: later, depends_on: [a], replicas: 60, script: [echo]}"  # their ends need more room than a page has
    workflow(tmp_path, "{name: ok, script: [echo fine]}", fill % "a", fill % "b", later)
    done = on_disk(tmp_path, "600k", f"{RUN} w.yaml")
    output = no_bug(done)
    assert done.returncode == 3, output
    assert "63 tasks: 1 completed, " in output, output
    assert re.search(r"^a +failed", output, re.MULTILINE), output
    assert "disk_full" in output, output
    assert SAYS_FULL.search(output), output
    assert re.search(r"task [ab] failed", output), output  # both fail in the same instant
    plan = json.loads((tmp_path / "kept/r/.sflow/plan.json").read_bytes())
    assert [one["name"] for one in plan["tasks"][:3]] == ["ok", "a", "b"]
    assert not [path.name for path in (tmp_path / "kept/r/.sflow").iterdir() if path.name.startswith(".")]


def test_clusters_f7_after_making_room_a_resume_goes_on(tmp_path: Path) -> None:
    workflow(
        tmp_path,
        "{name: first, script: [echo first]}",
        "{name: fills, depends_on: [first], script: ['test -e room || head -c 64m /dev/zero > disk/fill', echo done]}",
    )
    status = f"{sys.executable} -m sflow_ctl status --output-dir disk r"
    script = f"{RUN} w.yaml; echo first=$?; rm -f disk/fill; {status}; touch room; "
    script += f"{sys.executable} -m sflow_ctl run --resume disk/r; echo second=$?; {status}"
    done = on_disk(tmp_path, "600k", script)
    output = no_bug(done)
    assert "first=3" in output, output
    assert "second=0" in output, output
    assert "kept: first" in output, output
    assert re.search(r"^r: completed after .*, exit status 0", output, re.MULTILINE), output
    summary = json.loads((tmp_path / "kept/r/.sflow/summary.json").read_bytes())
    assert summary["outcome"] == "completed"
    assert {one["name"]: one["attempts"] for one in summary["tasks"]} == {"first": 1, "fills": 2}


def test_r6_outputs_that_cannot_be_stored_are_still_known(tmp_path: Path) -> None:
    workflow(
        tmp_path,
        "{name: a, script: ['head -c 64m /dev/zero > disk/fill 2> /dev/null || true'], outputs: [{pattern: 'x = {x:d}'}]}",
        "{name: b, depends_on: [a], script: [echo b]}",
    )
    done = on_disk(tmp_path, "600k", f"{RUN} w.yaml")
    output = no_bug(done)
    assert done.returncode == 3, output
    assert SAYS_FULL.search(output), output


def test_disk_full_output_of_a_task_is_held_until_there_is_room(tmp_path: Path) -> None:
    """Nothing of 400 kB is lost although the disk has been full in between."""
    workflow(
        tmp_path, "{name: a, script: [touch started, seq 1 70000, 'until test -e room; do sleep 0.05; done']}"
    )
    script = f"""
    head -c 64m /dev/zero > disk/fill; truncate -s -200k disk/fill
    ( until test -e started; do sleep 0.05; done; sleep 3; cp -r disk/r/a/a.log early.log; rm disk/fill; sleep 2; touch room ) &
    {RUN} w.yaml; status=$?; wait; (exit $status)"""
    done = on_disk(tmp_path, "8m", script)
    output = no_bug(done)
    assert "a.log cannot be written (No space left on device): its task waits for room" in output, output
    assert done.returncode == 0, output
    lines = (tmp_path / "kept/r/a/a.log").read_text().split()
    assert lines == [str(number) for number in range(1, 70001)]
    assert (tmp_path / "early.log").stat().st_size < 250_000


def test_disk_full_a_task_whose_last_output_is_lost_fails_with_that_reason(tmp_path: Path) -> None:
    workflow(tmp_path, "{name: a, script: ['head -c 64m /dev/zero > disk/fill', seq 1 5000]}")
    done = on_disk(tmp_path, "600k", f"{RUN} w.yaml")
    output = no_bug(done)
    assert done.returncode in (1, 3), output  # 3 if the record met the full disk as well
    assert "disk_full" in output, output
    assert "a.log could not be written (No space left on device): the end of its output is lost" in output, (
        output
    )


@pytest.mark.parametrize("size", ["16k", "24k", "32k", "40k", "48k", "64k", "96k"])
def test_r5_whatever_is_written_last_is_whole(tmp_path: Path, size: str) -> None:
    """The disk is full at another file each time: that is reported, and no file of ours is cut."""
    workflow(tmp_path, "{name: a, script: [seq 1 500], outputs: [{pattern: '7 = {x:d}'}]}")
    done = on_disk(tmp_path, size, f"{RUN} w.yaml")
    output = no_bug(done)
    assert done.returncode in (0, 1, 3), output
    if done.returncode:
        assert done.returncode == 3 or "disk_full" in output, output
        assert "full" in output, output
    for path in (tmp_path / "kept").rglob("*.json"):
        json.loads(path.read_bytes())

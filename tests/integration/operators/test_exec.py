"""`exec` beside tasks that do not run as plain processes: in the namespaces of a container, or over SSH."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.operators.sshd import Sshd
from tests.integration.operators.test_ssh import VALUE, start, up, workflow
from tests.support import PATIENCE_S, Run, command, sflow_ctl, wait_until

UNSHARE = 'unshare --user --map-root-user --mount bash -c "mount -t tmpfs none /mnt && echo in >/mnt/box; exec \\"\\$@\\"" box'
APPTAINER = f"""#!/bin/bash
for name in ${{!APPTAINERENV_@}}; do export ${{name#APPTAINERENV_}}="${{!name}}"; done
until [[ $1 = *.sif ]]; do shift; done
shift
{UNSHARE} "$@" &
child=$!
trap 'kill -TERM $child' TERM
wait $child
wait $child
"""
ENROOT = f"""#!/bin/bash
[ "$1" = start ] || exit 0
until [[ $1 = sflow-* ]]; do shift; done
shift
exec {UNSHARE} "$@"
"""


@pytest.fixture
def engines(tmp_path: Path) -> dict[str, str]:
    """An environment with stand-ins of engines, which start programs in namespaces of their own as the real ones do."""
    tried = subprocess.run(["bash", "-c", f"{UNSHARE} true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no namespaces here: {tried.stderr.decode().strip()}")
    directory = tmp_path / "engines"
    directory.mkdir()
    for name, text in (("apptainer", APPTAINER), ("enroot", ENROOT)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


@pytest.mark.parametrize("engine", ["apptainer", "enroot"])
def test_a_command_runs_in_the_namespaces_of_a_container(
    engines: dict[str, str], started: list[Run], tmp_path: Path, engine: str
) -> None:
    image = "/images/a.sif" if engine == "apptainer" else "/images/a.sqsh"
    text = f"""version: "0.1"
operators: {{box: {{type: container, engine: {engine}, image: {image}}}}}
workflow:
  name: w
  tasks:
    - {{name: a, operator: box, variables: {{MINE: "a b"}}, script: ["cd /usr; echo up; sleep 600; true"]}}
"""
    run = Run.start(text, tmp_path, env=engines)
    started.append(run)
    log = run.directory / "a/a.log"
    wait_until(lambda: log.exists() and "up\n" in log.read_text(), "it runs in its container")
    script = "cat /mnt/box; pwd; echo $MINE $SFLOW_TASK_NAME; exit 7"
    done = sflow_ctl("exec", "a", "--", "sh", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (7, "in\n/usr\na b a\n"), done.stderr
    assert not Path("/mnt/box").exists()
    client = subprocess.Popen(command("exec", "a", "--", "sleep", "4811"), cwd=tmp_path)
    wait_until(lambda: _sleepers(4811), "it runs")
    client.kill()
    client.wait(PATIENCE_S)
    wait_until(lambda: not _sleepers(4811), "nothing is left of it")


def test_a_script_that_is_an_ssh_of_its_own_is_refused_with_a_way_out(
    started: list[Run], tmp_path: Path
) -> None:
    """Here a stand-in, which never connects."""
    (tmp_path / "ssh").symlink_to("/bin/sleep")
    text = (
        f'version: "0.1"\nworkflow: {{name: w, tasks: [{{name: a, script: ["exec {tmp_path}/ssh 600"]}}]}}\n'
    )
    run = start(started, tmp_path, text)
    wait_until(lambda: b"/ssh\x00600" in Path(f"/proc/{run.pid_of('a')}/cmdline").read_bytes(), "it runs")
    done = sflow_ctl("exec", "a", "--", "true", cwd=tmp_path)
    assert done.returncode == 125
    assert "the task's script has started ssh itself" in done.stderr
    assert "Run ssh HOST COMMAND by hand, or give the task an operator of type ssh" in done.stderr


def test_a_command_runs_on_the_machine_of_an_ssh_task(sshd: Sshd, started: list[Run], tmp_path: Path) -> None:
    run = start(started, tmp_path, workflow(sshd, "cd /usr; echo up; sleep 600; true"))
    up(run)
    script = 'pwd; echo "$SFLOW_TASK_NAME $SSH_CONNECTION"; printf %s "$TEXT"; cat; exit 7'
    done = subprocess.run(
        command("exec", "a", "--", "sh", "-c", script),
        cwd=tmp_path,
        input="typed",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    first, second, *rest = done.stdout.split("\n")
    assert (done.returncode, first) == (7, "/usr"), done.stderr
    assert second.startswith("a 127.0.0.1 ")
    assert "\n".join(rest) == VALUE + "typed"
    client = subprocess.Popen(
        command("exec", "a", "--", "sh", "-c", "trap '' TERM HUP; setsid sleep 4812 & sleep 4813"),
        cwd=tmp_path,
    )
    wait_until(lambda: _sleepers(4812) and _sleepers(4813), "they run")
    client.send_signal(signal.SIGKILL)
    client.wait(PATIENCE_S)
    wait_until(lambda: not _sleepers(4812) and not _sleepers(4813), "nothing is left of it")
    assert run.states()["a"] == "running"
    copies = [one.read_text() for one in Path("/tmp").glob("sflow-exec.*")]
    assert not [text for text in copies if str(tmp_path) in text], "its variables stay in no file"
    client = subprocess.Popen(command("exec", "a", "--", "sleep", "4814"), cwd=tmp_path)
    wait_until(lambda: _sleepers(4814), "it runs")
    assert sflow_ctl("stop", "a", cwd=tmp_path).returncode == 0
    assert client.wait(PATIENCE_S) != 0
    wait_until(lambda: not _sleepers(4814), "it has ended with its task")


def _sleepers(seconds: int) -> list[int]:
    wanted = b"sleep\0%d\0" % seconds
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (entry / "cmdline").read_bytes() == wanted:
                found.append(int(entry.name))
        except OSError:
            continue
    return found

"""Which run a command means that names none."""

from pathlib import Path

from tests.support import Run, sflow_ctl

SERVICE = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: ["echo up; exec sleep 600"]}]}\n'


def test_ux_04_a_live_run_comes_before_one_that_has_ended_since(tmp_path: Path) -> None:
    live = Run.start(SERVICE, tmp_path, run_id="live")
    try:
        live.wait_for("a", "running")
        (tmp_path / "w.yaml").write_text(SERVICE.replace("exec sleep 600", "true"))
        assert sflow_ctl("run", "w.yaml", "--run-id", "newer", cwd=tmp_path).returncode == 0
        assert sflow_ctl("status", cwd=tmp_path).stdout.startswith("live is running")
        assert sflow_ctl("status", "last", cwd=tmp_path).stdout.startswith("newer: completed")
        live.process.terminate()
        live.finish()
        assert sflow_ctl("status", cwd=tmp_path).stdout.startswith("newer: completed")
    finally:
        live.kill()

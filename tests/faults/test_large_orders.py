"""More orders at once for one node than ZeroMQ takes in a frame: the node is not lost, and all tasks run."""

from pathlib import Path

import pytest

from tests.support import sflow_ctl

HEAD = 'version: "0.1"\n%sworkflow:\n  name: w\n  tasks:\n'
CASES = {
    "variable": (HEAD % f"variables: {{BIG: {'x' * 17_500}}}\n")
    + '    - {name: t, replicas: {count: 1000}, script: ["true"]}\n',
    "script-after-a-gate": (HEAD % "")
    + '    - {name: gate, script: ["true"]}\n'
    + f'    - {{name: t, depends_on: [gate], replicas: {{count: 1000}}, script: [": {"y" * 20_000}"]}}\n',
    "files": (HEAD % "")
    + f'    - {{name: t, replicas: {{count: 17}}, script: ["true"], files: {{f: {"z" * 1000 * 1024}}}}}\n',
}


@pytest.mark.parametrize("case", CASES)
def test_r18_and_p1_a_burst_of_large_tasks_completes(tmp_path: Path, case: str) -> None:
    (tmp_path / "w.yaml").write_text(CASES[case])
    done = sflow_ctl("run", "w.yaml", "-q", cwd=tmp_path, within_s=120)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

"""What is judged of the output of real steps: the lines as their processes printed them, whatever `srun` made of them."""

import pytest

from protocol.text.process_labels import PIECE_BYTES
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, summary

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

HEAD = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 2, gpus_per_node: 4}}
operators:
  both: {type: srun, ntasks: 2, ntasks_per_node: 1, mpi: none}
  labelled: {type: srun, ntasks: 1, mpi: none, label: true}
  strict: {type: srun, ntasks: 2, ntasks_per_node: 1, mpi: none, kill_on_bad_exit: true}
workflow:
  name: w
  tasks:
"""


def ran(cluster: Cluster, tasks: str, state: str = "COMPLETED") -> tuple[dict[str, str], str]:
    """Return the states of the tasks at the end, and what was printed."""
    path = cluster.shared / "lines.yaml"
    path.write_text(HEAD + tasks)
    command = f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run"
    number = cluster.sbatch(command, nodes=2, gres="gpu:4")
    job = cluster.wait_job(number, within_s=90)
    printed = cluster.output(number)
    assert job.state == state, printed
    loaded = summary(cluster)["tasks"]
    assert isinstance(loaded, list)
    return {task["name"]: task["state"] for task in loaded}, printed


def test_p7_lines_are_judged_as_they_were_printed(cluster: Cluster) -> None:
    """Probes, `success` and outputs: anchored patterns, lines printed in pieces, lines of any length around the limit."""
    sizes = [PIECE_BYTES - 2, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 3000]
    program = cluster.shared / "lines.py"
    program.write_text(
        f"for size in {sizes}:\n    print('[' + ' ' * (size - 2 - len(str(size))) + str(size) + ']')\n"
    )
    tasks = f"""    - name: server
      operator: both
      probes: {{readiness: {{log_watch: {{regex_pattern: 're:^server is ready$', match_count: 2}}}}}}
      script: ['printf "server "; sleep 0.3; echo is ready; exec sleep 7777']
    - name: long
      operator: labelled
      depends_on: [server]
      probes: {{readiness: {{log_watch: {{logger: server, regex_pattern: 're:^server is ready'}}}}}}
      kind: task
      outputs: [{{name: size, json: "[0]"}}, {{pattern: "rate = {{rate:d}}"}}]
      success: {{require: ["^finished$", "^rate = 5$"], forbid: ["^0: "]}}
      script:
        - python3 {program}
        - 'printf "rate = "; sleep 0.3; echo 5; echo finished'
    - name: bad
      operator: both
      on_failure: continue
      success: {{forbid: ["^Traceback"]}}
      script: ['echo Traceback']
    - name: hungry
      operator: both
      on_failure: continue
      script: ['echo MemoryError; exit 1']
    - name: last
      operator: labelled
      depends_on: [{{task: long, until: completed}}]
      script: ['echo sum ${{{{ task.long.outputs.size | sum }}}} ${{{{ task.long.outputs.rate }}}}']
"""
    states, printed = ran(cluster, tasks)
    assert states["long"] == "completed", printed
    assert states["bad"] == states["hungry"] == "failed", printed
    log = (cluster.shared / "out" / "run" / "last" / "last.log").read_text()
    assert log == f"0: sum {sum(sizes)} 5\n"
    assert "hungry failed (oom)" in printed


def test_p12_the_rank_that_failed_is_the_cause_where_srun_ends_the_others(cluster: Cluster) -> None:
    tasks = (
        "    - {name: c, operator: strict, script: ['[ $SLURM_PROCID = 1 ] || exit 3; exec sleep 7777']}\n"
    )
    states, printed = ran(cluster, tasks, "FAILED")
    assert states == {"c": "failed"}
    assert "rank 0 exited with status 3" in printed, printed


def test_p12_a_step_that_needs_more_cpus_than_the_job_has_is_explained(cluster: Cluster) -> None:
    tasks = "    - {name: c, operator: {name: both, ntasks_per_node: 200, ntasks: 400}, script: ['true']}\n"
    _, printed = ran(cluster, tasks, "FAILED")
    assert "Slurm does not start its step" in printed
    assert "the job has too few CPUs" in printed

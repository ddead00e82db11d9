"""Tasks of several ranks on local agents: geometry, environment, logs, and the effect of a failing rank."""

from pathlib import Path

import pytest

from tests.support import sflow_ctl

HEAD = """
version: "0.1"
backends: {pool: {type: slurm, account: a, partition: p, time: 10, nodes: 3, gpus_per_node: 2}}
operators:
  plain: {type: srun}
  two_each: {type: srun, ntasks_per_node: 2}
workflow:
  name: gang
  tasks:
"""


def run(tmp_path: Path, tasks: str, *options: str) -> tuple[int, str, Path]:
    """Exit status, standard output, run directory."""
    (tmp_path / "w.yaml").write_text(HEAD + tasks)
    ended = sflow_ctl("run", "w.yaml", "--nodes", "3", *options, cwd=tmp_path)
    (directory,) = (path for path in (tmp_path / "sflow_output").iterdir() if not path.name.startswith("_"))
    return ended.returncode, ended.stdout + ended.stderr, directory


GEOMETRIES = {
    "nothing": ("plain", 3, "1(x3)"),
    "ntasks below the nodes": ("{name: plain, ntasks: 1}", 1, "1"),
    "ntasks": ("{name: plain, ntasks: 7}", 7, "3,2(x2)"),
    "ntasks per node": ("two_each", 6, "2(x3)"),
    "both": ("{name: two_each, ntasks: 4}", 4, "2,1(x2)"),
}


@pytest.mark.parametrize("case", GEOMETRIES)
def test_as_many_processes_as_srun_would_start(case: str, tmp_path: Path) -> None:
    operator, count, per_node = GEOMETRIES[case]
    script = "echo $SLURM_PROCID $SLURM_NTASKS $SLURM_TASKS_PER_NODE $SFLOW_RANK $SFLOW_WORLD_SIZE"
    status, output, directory = run(
        tmp_path, f"    - {{name: t, operator: {operator}, script: ['{script}']}}\n"
    )
    assert status == 0, output
    prefix = "{}: " if count > 1 else ""
    lines = sorted((directory / "t" / "t.log").read_text().splitlines())
    expected = [f"{prefix.format(rank)}{rank} {count} {per_node} {rank} {count}" for rank in range(count)]
    assert lines == expected


def test_ranks_know_their_node_and_meet_at_the_first(tmp_path: Path) -> None:
    script = "echo $SLURM_LOCALID $SLURM_NODEID $SLURMD_NODENAME $SFLOW_MASTER_ADDR:$SFLOW_MASTER_PORT"
    status, output, directory = run(
        tmp_path,
        f"    - {{name: t, operator: two_each, resources: {{nodes: {{indices: [2, 0]}}}}, script: ['{script}']}}\n",
    )
    assert status == 0, output
    lines = [line.split() for line in sorted((directory / "t" / "t.log").read_text().splitlines())]
    assert [line[1:4] for line in lines] == [
        ["0", "0", "localhost-2"],
        ["1", "0", "localhost-2"],
        ["0", "1", "localhost"],
        ["1", "1", "localhost"],
    ]
    assert len({line[4] for line in lines}) == 1


@pytest.mark.parametrize("spool", [False, True], ids=["shared", "spooled"])
def test_f61_every_line_of_every_rank_is_in_the_merged_log_in_order(spool: bool, tmp_path: Path) -> None:
    script = "for i in $(seq 20000); do echo $i; done; printf end"
    options = ("--log-spool", str(tmp_path / "spool"), "-q") if spool else ("-q",)
    status, output, directory = run(
        tmp_path, f"    - {{name: t, operator: two_each, script: ['{script}']}}\n", *options
    )
    assert status == 0, output
    merged = (directory / "t" / "t.log").read_text().splitlines()
    for rank in range(6):
        own = [line.partition(": ")[2] for line in merged if line.startswith(f"{rank}: ")]
        assert own == [*map(str, range(1, 20_001)), "end"]
        assert (directory / "t" / f"t.rank-{rank}.log").read_text().splitlines() == own
    assert len(merged) == 6 * 20_001


@pytest.mark.parametrize("spool", [False, True], ids=["shared", "spooled"])
def test_public_01_a_gang_that_deletes_its_output_directory_keeps_every_line(
    spool: bool, tmp_path: Path
) -> None:
    script = 'seq 100; sleep 0.3; rm -rf "$SFLOW_TASK_OUTPUT_DIR"; sleep 0.3'
    options = ("--log-spool", str(tmp_path / "spool"), "-q") if spool else ("-q",)
    more = f"    - {{name: more, operator: two_each, script: ['{script}; seq 101 200']}}\n"
    silent = f"    - {{name: silent, operator: two_each, script: ['{script}']}}\n"
    status, output, directory = run(tmp_path, more + silent, *options)
    assert status == 0, output
    for task, count in ("more", 200), ("silent", 100):
        lines = [str(number) for number in range(1, count + 1)]
        merged = (directory / task / f"{task}.log").read_text().splitlines()
        for rank in range(6):
            assert [one.partition(": ")[2] for one in merged if one.startswith(f"{rank}: ")] == lines
            assert (directory / task / f"{task}.rank-{rank}.log").read_text().splitlines() == lines


def test_outputs_see_all_ranks_without_their_labels(tmp_path: Path) -> None:
    status, output, _ = run(
        tmp_path,
        "    - {name: t, operator: plain, script: ['echo rate = $SLURM_PROCID.5'], outputs: [{pattern: 'rate = {rate:f}'}]}\n"
        "    - {name: u, operator: {name: plain, ntasks: 1}, depends_on: [t], "
        "script: ['echo sum ${{ task.t.outputs.rate | sum }}']}\n",
    )
    assert status == 0, output
    assert "[u] sum 4.5" in output


def test_a_rank_that_fails_leaves_the_others_unless_asked_otherwise(tmp_path: Path) -> None:
    script = "if [ $SLURM_PROCID = 1 ]; then exit 3; fi; sleep 0.3; echo $SLURM_PROCID went on"
    status, output, directory = run(tmp_path, f"    - {{name: t, operator: plain, script: ['{script}']}}\n")
    assert status == 1
    assert "task t failed: rank 1: exit status 3" in output
    assert "  node:  localhost-1" in output
    assert sorted((directory / "t" / "t.log").read_text().splitlines()) == ["0: 0 went on", "2: 2 went on"]


def test_kill_on_bad_exit_ends_the_others_and_a_retry_keeps_the_earlier_logs(tmp_path: Path) -> None:
    script = 'echo try $SFLOW_ATTEMPT; [ "$SFLOW_ATTEMPT$SLURM_PROCID" = 11 ] && exit 3; [ $SFLOW_ATTEMPT = 2 ] || exec sleep 100'
    status, output, directory = run(
        tmp_path,
        "    - name: t\n      operator: {name: plain, kill_on_bad_exit: true}\n"
        f"      retries: {{count: 1, interval: 0}}\n      script: ['{script}']\n",
    )
    assert status == 0, output
    assert "rank 1: exit status 3" in output
    assert sorted((directory / "t" / "t.log").read_text().splitlines()) == [f"{n}: try 2" for n in range(3)]
    assert "1: try 1" in (directory / "t" / "t.attempt-1.log").read_text()
    assert (directory / "t" / "t.attempt-1.rank-1.log").read_text() == "try 1\n"

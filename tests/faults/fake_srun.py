"""An `srun` whose nodes are all this machine, as strict as the real ones together and as broken as it is told to be.

Run by the wrapper that `fake_slurm.py` makes; what it does stands in `behaviour.json` beside that.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

FLAGS = {"--overlap", "--unbuffered", "--no-kill", "--external-launcher"}
"""Options without a value, of those that it is called with."""
OPTIONS_IN_ENVIRONMENT = (
    *(
        "SLURM_CPU_BIND",
        "SLURM_CPUS_PER_GPU",
        "SLURM_CPUS_PER_TASK",
        "SRUN_CPUS_PER_TASK",
        "SLURM_DISTRIBUTION",
    ),
    *(
        "SLURM_EXACT",
        "SLURM_EXCLUSIVE",
        "SLURM_EXPORT_ENV",
        "SLURM_GPUS",
        "SLURM_GPUS_PER_NODE",
        "SLURM_GRES",
    ),
    *(
        "SLURM_IMMEDIATE",
        "SLURM_KILL_BAD_EXIT",
        "SLURM_MEM_PER_CPU",
        "SLURM_MEM_PER_GPU",
        "SLURM_MEM_PER_NODE",
    ),
    *(
        "SLURM_MPI_TYPE",
        "SLURM_NNODES",
        "SLURM_NPROCS",
        "SLURM_NTASKS",
        "SLURM_NTASKS_PER_NODE",
        "SLURM_OVERCOMMIT",
    ),
    *("SLURM_STDOUTMODE", "SLURM_TIMELIMIT", "SLURM_TRES_PER_TASK", "SLURM_WAIT", "SLURM_WORKING_DIR"),
)
"""Variables that srun reads as options. Source: srun(1), "Input environment variables"."""


def main() -> int:
    """Return the highest exit status of its tasks, or that of its own failure."""
    behaviour = json.loads(Path(sys.argv[1]).read_text())
    words = sys.argv[2:]
    count = next((n for n, word in enumerate(words) if not word.startswith("-")), len(words))
    options, command = words[:count], words[count:]
    problem = wrong_call(options, behaviour["refuses"])
    if problem is not None:
        return fail(problem)
    say(behaviour["says"])
    while behaviour["awaits"] and not Path(behaviour["awaits"]).exists():
        time.sleep(0.01)
    say(behaviour["says_then"])
    if behaviour["hangs"]:
        signal.pause()
    if behaviour["exits"] is not None:
        return int(behaviour["exits"])
    return run_tasks(behaviour, dict(option.partition("=")[::2] for option in options), command)


def wrong_call(options: list[str], refuses: dict[str, str]) -> str | None:
    """Return the error that the strictest srun would print."""
    for option in options:
        if "=" not in option and option not in FLAGS:
            return f"error: option {option} would take the next word for its value"
        for known, words in refuses.items():
            if option.partition("=")[0] == known:
                return words
    for name in OPTIONS_IN_ENVIRONMENT:
        if name in os.environ:
            return f"fatal: {name}={os.environ[name]} is in the environment, and conflicts"
    return None


def say(lines: list[str]) -> None:
    """On standard error, at once."""
    for line in lines:
        sys.stderr.write(f"srun: {line}\n")
    sys.stderr.flush()


def fail(text: str) -> int:
    """As srun ends when it cannot begin."""
    sys.stderr.write(f"srun: {text}\n")
    return 1


def run_tasks(behaviour: dict[str, object], options: dict[str, str], command: list[str]) -> int:
    """One task on each node; what happens when the first ends is what the options say, or a harsh site's way."""
    nodes = nodes_of_job(behaviour, options.get("--jobid", ""))
    wanted = options["--nodelist"].split(",") if "--nodelist" in options else nodes
    if options.get("--nodes") != str(len(wanted)) or options.get("--ntasks") != options.get("--nodes"):
        return fail(f"error: {options.get('--ntasks')} tasks on {len(wanted)} nodes")
    skipped, before = behaviour["skips"], behaviour["before"]
    assert isinstance(skipped, list)
    assert isinstance(before, list)
    running = {}
    for number, node in enumerate(wanted):
        if node not in skipped:
            running[node] = subprocess.Popen(
                [*before, *command], env=task_environment(behaviour, node, number)
            )

    def terminated(*_: object) -> None:
        end_all(running.values())
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, terminated)
    wait_s = float(options.get("--wait", "1"))
    statuses: list[int] = []
    kill_at = None
    while running or skipped:
        for node, task in list(running.items()):
            if task.poll() is None:
                continue
            del running[node]
            statuses.append(task.returncode)
            if task.returncode and options.get("--kill-on-bad-exit") != "0":
                end_all(running.values())
            if wait_s and kill_at is None:
                kill_at = time.monotonic() + wait_s
        if kill_at is not None and time.monotonic() >= kill_at:
            end_all(running.values())
        time.sleep(0.01)
    return max((status if status >= 0 else 128 - status for status in statuses), default=0)


def nodes_of_job(behaviour: dict[str, object], job: str) -> list[str]:
    """Return the nodes of a job that salloc has granted, else of the only job."""
    for granted in (Path(sys.argv[1]).parent / "jobs").glob("*"):
        number, names = granted.read_text().split()
        if number == job:
            return names.split(",")
    nodes = behaviour["nodes"]
    assert isinstance(nodes, list)
    return nodes


def task_environment(behaviour: dict[str, object], node: str, number: int) -> dict[str, str]:
    """As slurmstepd makes it."""
    extra = behaviour["environment"]
    assert isinstance(extra, dict)
    return {
        **os.environ,
        "SLURMD_NODENAME": node,
        "SLURM_NODEID": str(number),
        "SLURM_PROCID": str(number),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": node,
        "PMI_RANK": str(number),
        "PMIX_NAMESPACE": "slurm.pmix.1.0",
        **extra,
    }


def end_all(tasks: Iterable["subprocess.Popen[bytes]"]) -> None:
    """As Slurm ends a step."""
    for task in tasks:
        task.kill()


if __name__ == "__main__":
    sys.exit(main())

"""5,000 independent no-op tasks, 64 at a time, each with its log file and journal records, beside the floors.

The tasks are `true`, which is started directly; once they are `:`, a command of bash. Floors: `xargs -P64` with either, and a
bare Python loop of posix_spawn, a session and a log file per process, pidfd and epoll.
"""

import os
import select
import time
from pathlib import Path

from bench.measure import interleaved, median, report, run_workflow, scratch, seconds, sized

COUNT = sized(5_000, 20)
AT_ONCE = 64
FLOOR, FLOOR_BY_BASH = f"xargs -P{AT_ONCE}", f"xargs -P{AT_ONCE}, bash -c true"


def workflow(script: str = "true") -> str:
    """Tasks that do nothing."""
    return (
        f'version: "0.1"\nworkflow:\n  name: fan\n  tasks:\n'
        f'    - {{name: t, replicas: {{count: {COUNT}}}, script: ["{script}"]}}\n'
    )


def xargs_s(command: str = "bash -c true") -> float:
    """Return the seconds in which xargs does the same, without logs and records."""
    return seconds(["bash", "-c", f"seq {COUNT} | xargs -P{AT_ONCE} -I{{}} {command}"])


def bare_loop(cwd: Path) -> float:
    """Tasks a second of the least that Python can do for the same."""
    running: dict[int, int] = {}
    epoll, started = select.epoll(), 0
    begin = time.perf_counter()
    while started < COUNT or running:
        while started < COUNT and len(running) < AT_ONCE:
            log = str(cwd / f"{started}.log")
            actions = (
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            )
            pid = os.posix_spawn(
                "/bin/bash", ("bash", "-c", "true"), os.environ, file_actions=actions, setsid=True
            )
            descriptor = os.pidfd_open(pid)
            epoll.register(descriptor, select.EPOLLIN)
            running[descriptor] = pid
            started += 1
        for descriptor, _ in epoll.poll():
            os.waitpid(running.pop(descriptor), 0)
            epoll.unregister(descriptor)
            os.close(descriptor)
    return COUNT / (time.perf_counter() - begin)


def main() -> None:
    """Tasks per second, whole processes."""
    with scratch() as cwd:
        results = interleaved(
            {
                "sflow-ctl run": lambda: (
                    COUNT / run_workflow(workflow(), cwd, "-q", "--max-running", str(AT_ONCE))[0]
                ),
                "sflow-ctl run, console piped": lambda: (
                    COUNT / run_workflow(workflow(), cwd, "--max-running", str(AT_ONCE))[0]
                ),
                "sflow-ctl run, tasks by bash": lambda: (
                    COUNT / run_workflow(workflow(":"), cwd, "-q", "--max-running", str(AT_ONCE))[0]
                ),
                FLOOR: lambda: COUNT / xargs_s("true"),
                FLOOR_BY_BASH: lambda: COUNT / xargs_s(),
                "bare Python loop": lambda: bare_loop(cwd),
            },
            3,
        )
    shares = {
        f"{name}, of {floor}": f"{median(values) / median(results[floor]):.0%}"
        for floor in (FLOOR, FLOOR_BY_BASH)
        for name, values in results.items()
    }
    report("fan_out", "tasks/s", results, shares)


if __name__ == "__main__":
    main()

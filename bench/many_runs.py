"""Lists over many runs, with and without the index of runs: processor seconds of a whole command.

The runs are copies of one that has ended, with 100 tasks each.
"""

import os
import resource
import shutil
import subprocess
from functools import partial
from pathlib import Path

from bench.measure import SFLOW_CTL, interleaved, report, scratch, sized

WORKFLOW = """version: "0.1"
workflow:
  name: many
  tasks:
    - {name: a, script: ["true"], replicas: 99}
    - {name: b, script: ["exit 3"], on_failure: isolate}
"""


def cpu_s(cwd: Path, config: str, *words: str) -> float:
    """Processor time of a command, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(cwd / config), "XDG_STATE_HOME": str(cwd / "state")}
    subprocess.run([*SFLOW_CTL, *words], cwd=cwd, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run one workflow, copy its directory, and list the copies."""
    count = sized(300, 20)
    with scratch() as cwd:
        (cwd / "w.yaml").write_text(WORKFLOW)
        environment = {**os.environ, "XDG_STATE_HOME": str(cwd / "state")}
        subprocess.run(
            [*SFLOW_CTL, "run", "w.yaml", "--run-id", "r0", "-q"],
            cwd=cwd, env=environment, check=False, capture_output=True,
        )  # fmt: skip
        for number in range(1, count):
            shutil.copytree(cwd / "sflow_output" / "r0", cwd / "sflow_output" / f"r{number}")
        (cwd / "with" / "sflow").mkdir(parents=True)
        (cwd / "with" / "sflow" / "config.yaml").write_text("index: sqlite\n")
        print(f"index refresh, all new: {cpu_s(cwd, 'with', 'index', 'refresh'):.2f} s")
        lists = {"ps -a": ("ps", "-a", "--json"), "ps --tasks": ("ps", "--tasks", "state=failed", "--json")}
        cases = {
            f"{name}, {how}": partial(cpu_s, cwd, config, *words)
            for name, words in lists.items()
            for how, config in (("no index", "without"), ("index", "with"))
        }
        report(f"lists of {count} runs of 100 tasks", "CPU s", interleaved(cases, sized(3, 1)))


if __name__ == "__main__":
    main()

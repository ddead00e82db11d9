"""Compares this program with nv-sflow on files that both run: planning, one task, a chain, many tasks at once, a flood of output.

`python -m bench.peers [SFLOW [CASE ...]]`: SFLOW is the command of an installation; without one, the release that files are read
as is installed into an environment of the user's cache. Both run the same files, in turn; a ratio is theirs over ours.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

from bench import chain, first_task
from bench.log_firehose import HEAD, hose, writer
from bench.measure import SFLOW_CTL, interleaved, median, report, scratch, seconds, sized
from tests.conformance.reference.comparison import planned_here
from tests.conformance.reference.install import NotInstalledError, environment, samples, samples_directory

ROUNDS = {"plan": 9, "first_task": 7, "chain": 3, "fan_out": 3, "log_flood": 5}
LENGTH, COUNT, MEGABYTES = sized((6, 100, 20), (2, 4, 1))
"""Of the chain, of tasks at once, of output: sflow looks at its tasks every two seconds."""


class Peer:
    """A command with sflow's options, which both have."""

    def __init__(self, command: list[str], cwd: Path) -> None:
        self._command, self._cwd = command, cwd

    def run(self, text: str) -> float:
        """Return the seconds of a whole run of a workflow."""
        file = self._cwd / "workflow.yaml"
        file.write_text(text)
        out = self._cwd / "out"
        return seconds([*self._command, "run", "-f", file, "--output-dir", out], self._cwd)

    def plan(self, argv: list[str]) -> float:
        """Return the seconds of a dry run."""
        return seconds([*self._command, "run", *argv, "--dry-run"], self._cwd)

    def flood_s(self) -> float:
        """Return the seconds in which a program has printed, as it notes them itself."""
        times = self._cwd / "times"
        noted = f"begin=$EPOCHREALTIME; {writer(MEGABYTES)}; echo $begin $EPOCHREALTIME > {times}"
        self.run(HEAD + hose(MEGABYTES).replace(writer(MEGABYTES), noted))
        begin, end = times.read_text().split()
        return float(end) - float(begin)


def largest_sample(python: Path, cwd: Path) -> tuple[str, list[str]]:
    """Return the name and options of the sample with the most text that both plan."""
    found = samples(samples_directory(python))
    sizes = {
        name: sum(Path(file).stat().st_size for file in argv[1::2] if Path(file).is_file())
        for name, argv in found.items()
    }
    for name in sorted(sizes, key=lambda one: -sizes[one]):
        if not isinstance(planned_here(found[name], cwd), Exception):
            return f"{name}, {sizes[name]} bytes", found[name]
    sys.exit("no sample of this release can be planned here")


def fan_out() -> str:
    """Return tasks that do nothing, all at once."""
    return (
        f'version: "0.1"\nworkflow:\n  name: fan\n  tasks:\n'
        f'    - {{name: t, replicas: {{count: {COUNT}}}, script: ["true"]}}\n'
    )


def compare(name: str, sflow: Path, cwd: Path) -> None:
    """Measure one case and print its table."""
    ours, theirs = Peer(SFLOW_CTL, cwd), Peer([str(sflow)], cwd)
    notes: dict[str, object] = {}
    measure: Callable[[Peer], float]
    match name:
        case "plan":
            python = sflow.with_name("python")
            label, argv = largest_sample(python, cwd)
            notes["sample"] = label
            unit, measure = "s", functools.partial(Peer.plan, argv=argv)
        case "first_task":
            unit, measure = "s", functools.partial(Peer.run, text=first_task.WORKFLOW)
        case "chain":
            text = chain.workflow(LENGTH)
            unit, measure = f"s for {LENGTH} tasks", functools.partial(Peer.run, text=text)
        case "fan_out":
            unit, measure = f"s for {COUNT} tasks", functools.partial(Peer.run, text=fan_out())
        case _:
            unit, measure = f"s for {MEGABYTES} MB, as the program notes them", Peer.flood_s
    results = interleaved(
        {"sflow-ctl": lambda: measure(ours), "sflow": lambda: measure(theirs)}, ROUNDS[name]
    )
    ratios = [theirs / ours for ours, theirs in zip(results["sflow-ctl"], results["sflow"], strict=True)]
    notes["sflow / sflow-ctl, median of the rounds"] = round(median(ratios), 2)
    notes["best and worst round"] = f"{max(ratios):.2f}, {min(ratios):.2f}"
    report(f"peers.{name}", unit, results, notes)


def main() -> int:
    """Compare the cases named, or all."""
    given, cases = sys.argv[1:2], sys.argv[2:] or list(ROUNDS)
    if (given and not Path(given[0]).is_file()) or not set(cases) <= set(ROUNDS):
        sys.exit(__doc__)
    try:
        sflow = Path(given[0]).absolute() if given else environment().with_name("sflow")
    except NotInstalledError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    for name in cases:
        with scratch() as cwd:
            compare(name, sflow, cwd)
    return 0


if __name__ == "__main__":
    sys.exit(main())

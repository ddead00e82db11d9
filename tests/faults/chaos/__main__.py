"""Chaos as a tool.

    python -m tests.faults.chaos --seed 1 --minutes 5            # a fleet on this machine
    python -m tests.faults.chaos --seed 1 --minutes 5 --rig      # the Slurm rig
    python -m tests.faults.chaos --seed 42 --rounds 1 --keep     # a round again

Each round has a seed of its own, one more than the one before, which decides its workflow and its faults. The exit status is 1
if something was violated; the round's directory is kept then, with the schedule, the workflow and everything printed.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from tests.faults.chaos import local_site, workload
from tests.faults.chaos.rounds import RoundRunner
from tests.faults.chaos.schedule import LOCAL_KINDS, RIG_KINDS, decide
from tests.faults.chaos.site import Site

ROUND_WITHIN_S = 900.0


def main() -> int:
    """Run rounds until the time is over; return the exit status."""
    options = _options()
    if options.inside:
        return _inside(options)
    if not options.rig and not local_site.can_enter():
        print("chaos: this machine allows no namespaces of processes, mounts and networks", file=sys.stderr)
        return 3
    until = time.monotonic() + options.minutes * 60
    bad: list[int] = []
    number = 0
    while number < options.rounds if options.rounds else time.monotonic() < until:
        seed = options.seed + number
        number += 1
        if not _round(options, seed):
            bad.append(seed)
            if not options.go_on:
                break
    print(f"{number} rounds, {len(bad)} with violations{': seeds ' + ' '.join(map(str, bad)) if bad else ''}")
    return 1 if bad else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.chaos", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the first round")
    parser.add_argument("--minutes", type=float, default=1.0, help="begin no round after this time")
    parser.add_argument("--rounds", type=int, default=0, help="run this many rounds instead")
    parser.add_argument("--rig", action="store_true", help="run in jobs of the Slurm rig")
    parser.add_argument("--short", action="store_true", help="smaller workflows with fewer faults")
    parser.add_argument("--kinds", default="", help="only these faults, separated by commas")
    parser.add_argument("--go-on", action="store_true", help="continue after a violation")
    parser.add_argument("--keep", action="store_true", help="keep the directories of all rounds")
    parser.add_argument("--directory", type=Path, help="where directories of rounds are made")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _round(options: argparse.Namespace, seed: int) -> bool:
    """Run one round in a process and, on this machine, in namespaces of its own; return whether all was well."""
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-", dir=options.directory))
    arguments = [f"--seed={seed}", f"--kinds={options.kinds}", f"--inside={directory}"]
    arguments += ["--short"] * options.short + ["--rig"] * options.rig
    command = [sys.executable, "-m", "tests.faults.chaos", *arguments]
    try:
        status = subprocess.run(
            command if options.rig else local_site.enter(arguments), check=False, timeout=ROUND_WITHIN_S
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"seed {seed}: the round does not end within {ROUND_WITHIN_S:g} s", flush=True)
        status = 1
    if status == 0 and not options.keep:
        shutil.rmtree(directory, ignore_errors=True)
    elif status != 0:
        kinds = f" --kinds={options.kinds}" if options.kinds else ""
        more = f"{' --short' * options.short}{' --rig' * options.rig}{kinds}"
        print(f"  kept: {directory}; again: python -m tests.faults.chaos --seed={seed} --rounds=1{more}")
    return status == 0


def _inside(options: argparse.Namespace) -> int:
    """Run the round of a seed in this process."""
    directory: Path = options.inside
    kinds = tuple(options.kinds.split(",")) if options.kinds else RIG_KINDS if options.rig else LOCAL_KINDS
    chosen = decide(options.seed, kinds, is_short=options.short)
    (directory / "schedule.json").write_bytes(msgspec.json.format(msgspec.json.encode(chosen)))
    site: Site
    if options.rig:
        from tests.faults.chaos.rig_site import BACKEND, RigSite

        site, backend = RigSite(chosen, directory), BACKEND
    else:
        site, backend = local_site.LocalSite(chosen, directory), "type: local"
    workload.write(chosen, directory / "record", directory / "w.yaml", backend)
    log: list[str] = []

    def say(text: str) -> None:
        log.append(text)
        (directory / "chaos.log").write_text("\n".join(log) + "\n")
        print(text, flush=True)

    say(f"seed {chosen.seed}: {len(chosen.works)} tasks, {chosen.nodes} nodes")
    runner = RoundRunner(chosen, site, directory / "record", directory / "output.txt", say)
    try:
        found = runner.run()
    finally:
        if site.run_directory.exists():
            shutil.copytree(site.run_directory, directory / "kept", symlinks=True)
        site.end()
    for sentence in found:
        say(f"  VIOLATION {sentence}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

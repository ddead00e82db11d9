"""Prints what a release of sflow plans otherwise than another one does: `python -m bench.reference --version X`.

Both are installed into environments of their own, or a path names the interpreter of one that has it; each plans all samples
of the newer one and our cases. Nothing here is a measurement: run it when a release is out, and bring the format up to it.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.conformance.reference.install import (
    VERSION,
    NotInstalledError,
    environment,
    plans_there,
    samples,
    samples_directory,
)

CASES = Path(__file__).parent.parent / "tests" / "conformance" / "sflow_0_3"


def differences(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each fact that differs between two plans of one workflow."""
    if "error" in old or "error" in new:
        if ("error" in old) != ("error" in new) or old["error"].splitlines()[0] != new["error"].splitlines()[
            0
        ]:
            yield f"{name}: {old.get('error', 'planned')} -> {new.get('error', 'planned')}"
        return
    for task in dict.fromkeys((*old["tasks"], *new["tasks"])):
        before, after = old["tasks"].get(task), new["tasks"].get(task)
        if before is None or after is None:
            yield f"{name} {task}: {'is new' if before is None else 'is gone'}"
            continue
        for fact in before:
            if before[fact] != after.get(fact):
                yield f"{name} {task} {fact}: {before[fact]!r} -> {after.get(fact)!r}"


def interpreter(release: str) -> Path:
    """Return the interpreter of a release. Raises: NotInstalledError."""
    return Path(release).absolute() if Path(release).is_file() else environment(release)


def main() -> int:
    """Compare two releases and print what differs; return 1 if anything does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", required=True, help="the release to look at, or an interpreter's path")
    parser.add_argument("--since", default=VERSION, help="the release to compare it with, or a path")
    given = parser.parse_args()
    try:
        older, newer = interpreter(given.since), interpreter(given.version)
        jobs = samples(samples_directory(newer))
        jobs |= {case.stem: ["-f", str(case)] for case in sorted(CASES.glob("*.yaml"))}
        with tempfile.TemporaryDirectory() as folder:
            old, new = (plans_there(python, jobs, Path(folder)) for python in (older, newer))
    except NotInstalledError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    lines = [line for name in jobs for line in differences(name, old[name], new[name])]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.write(f"{len(lines)} facts differ in {len(jobs)} plans\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())

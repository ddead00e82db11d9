"""Reports of large runs: processor time and memory of `sflow-ctl report`, the size of the page, how fast a browser opens it.

Also what the report adds to the end of a run of one task, whole processes in turn. A browser is used if Chromium is installed.
"""

import functools
import os
import resource
import subprocess
import time
from pathlib import Path

from bench.measure import SFLOW_CTL, interleaved, median, report, run_workflow, scratch, sized
from tests.chromium import Page, chromium_page, find_chromium

SIZES = sized((1_000, 10_000), (3, 5))
ROUNDS = 5
ONE = 'version: "0.1"\nworkflow: {name: one, tasks: [{name: t, script: ["true"]}]}\n'


def wide(count: int) -> str:
    """Tasks that may start at once, of ten different names."""
    names = range(min(10, count))
    tasks = "".join(
        f'    - {{name: t{n}, replicas: {{count: {count // len(names)}}}, script: ["true"]}}\n' for n in names
    )
    return f'version: "0.1"\nworkflow:\n  name: wide\n  tasks:\n{tasks}'


def command(directory: Path, target: Path) -> float:
    """Processor seconds of the whole command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*SFLOW_CTL, "report", directory, "-o", target], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def end_of_run(cwd: Path, option: str) -> float:
    """Processor seconds of a run of one task, with or without a report."""
    before = os.times()
    run_workflow(ONE, cwd, "-q", option)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def wall(cwd: Path, option: str) -> float:
    """Seconds of the same."""
    started = time.perf_counter()
    run_workflow(ONE, cwd, "-q", option)
    return time.perf_counter() - started


def busy(page: Page, path: Path) -> float:
    """Processor seconds of the page's thread until it is loaded and painted."""
    page.open(path)
    return page.busy_s()


def main() -> None:
    """Processor seconds of the command, bytes, seconds in the browser; then the end of a run."""
    with scratch() as cwd:
        directories = {}
        for count in SIZES:
            inside = cwd / f"of-{count}"
            inside.mkdir()
            directories[count] = run_workflow(wide(count), inside, "-q", "--no-report")[1]
        pages = {count: cwd / f"{count}.html" for count in SIZES}
        found = interleaved(
            {
                f"{count} tasks": functools.partial(command, directories[count], pages[count])
                for count in SIZES
            },
            ROUNDS,
        )
        sizes = {f"{count} tasks, page": f"{pages[count].stat().st_size / 1e6:.2f} MB" for count in SIZES}
        report("report.command", "s of processor time", found, sizes)
        program = find_chromium()
        if program is None:
            print("chromium is not installed: how fast a page opens is not measured")
        else:
            with chromium_page(program) as page:
                opened = interleaved(
                    {f"{count} tasks": functools.partial(page.open, pages[count]) for count in SIZES}, ROUNDS
                )
                used = interleaved(
                    {f"{count} tasks": functools.partial(busy, page, pages[count]) for count in SIZES}, ROUNDS
                )
            report("report.browser", "s until it is loaded and painted", opened)
            report("report.browser.cpu", "s of processor time of the page", used)
        options = ("--report", "--no-report")
        for name, unit, measure in (
            ("report.end_of_run.cpu", "s of processor time", end_of_run),
            ("report.end_of_run", "s", wall),
        ):
            ends = interleaved({one: functools.partial(measure, cwd, one) for one in options}, 2 * ROUNDS)
            added = median(ends["--report"]) - median(ends["--no-report"])
            report(name, unit, ends, {"the report adds": round(added, 3)})


if __name__ == "__main__":
    main()

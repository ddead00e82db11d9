"""Runs one round: the run, its faults at their times, the checks after it, and resumes until everything is completed."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.chaos.faults import carry_out
from tests.faults.chaos.invariants import Ended
from tests.faults.chaos.schedule import Fault, Round
from tests.faults.chaos.site import Site

ENDS_WITHIN_S = 150.0
GONE_AFTER_GRACE_S = 40.0
"""After the controller's end: what agents get to stop tasks, and a margin for a loaded machine."""
LOOK_S = 0.02
CUT = ("Not written: its record since", "What has happened meanwhile is not recorded")
"""Printed by a run that ends without its directory."""


class RoundRunner:
    """Runs a round at a site. `say` gets one sentence for each step."""

    def __init__(
        self, chosen: Round, site: Site, record: Path, output: Path, say: Callable[[str], None]
    ) -> None:
        self._round, self._site = chosen, site
        self._record, self._output = record, output
        self._say = say
        self._was_full = False
        """Its disk was full when the last run ended."""

    def run(self) -> list[str]:
        """Return all violations; the round stops at the first run that has some."""
        has_begun = False
        for faults in (*self._round.faults, ()):
            completed, starts = self._before() if has_begun else (set(), 0)
            ended, found = self._one_run(faults, is_resume=has_begun)
            found += ended.violations()
            again = {line.split()[0] for line in ended.starts()[starts:]} & completed
            found += [
                f"{task} was completed, and started again"
                for task in sorted(again)
                if f"{task} runs again: its outputs.json cannot be read"
                not in ended.output  # the disk was full
            ]
            if not faults and ended.status != 0:
                found.append(f"without faults it ends with {ended.status}: {ended.output[-800:]}")
            if found:
                return found
            has_begun = self._can_resume(ended)
            if not has_begun:
                self._say("  it had not begun")
                shutil.rmtree(self._site.run_directory, ignore_errors=True)
            if ended.status == 0 and has_begun:
                return []
        return []

    def _before(self) -> tuple[set[str], int]:
        ended = Ended(self._site.run_directory, self._record, 0, "", is_excused=True)
        return {task for task in ended.completed() if not task.startswith("s")}, len(ended.starts())

    def _can_resume(self, ended: Ended) -> bool:
        """Return whether there is something to resume: a run may end before it has a plan."""
        return all((ended.directory / ".sflow" / name).exists() for name in ("plan.json", "run.json"))

    def _one_run(self, faults: tuple[Fault, ...], *, is_resume: bool) -> tuple[Ended, list[str]]:
        before = self._output.stat().st_size if self._output.exists() else 0
        self._site.start(self._output, is_resume=is_resume)
        began = time.monotonic()
        self._say(f"  {'resume' if is_resume else 'run'} with {len(faults)} faults")
        self._was_full = False
        found = self._follow(faults, began)
        status = self._site.status()
        took = time.monotonic() - began
        self._say(f"  {took:6.2f} ended with {status}")
        found += self._left()
        with self._output.open("rb") as file:
            file.seek(before)
            output = file.read().decode(errors="replace")
        is_unborn = status in (-signal.SIGTERM, -signal.SIGINT) and not output  # it had no handlers yet
        is_cut = any(text in output for text in CUT)
        is_excused = status in (None, -9, 137) or self._was_full or is_unborn or is_cut
        ended = Ended(self._site.run_directory, self._record, status or 0, output, is_excused=is_excused)
        return ended, found

    def _follow(self, faults: tuple[Fault, ...], began: float) -> list[str]:
        """Carry out the faults at their times until the run has ended and all is repaired."""
        due: list[tuple[float, int, Fault | None, Callable[[], None] | None]] = [
            (fault.at_s, number, fault, None) for number, fault in enumerate(faults)
        ]
        while True:
            now = time.monotonic() - began
            is_over = self._site.status() is not None
            if is_over:
                due = [one for one in due if one[3] is not None]
            for one in sorted(one for one in due if one[0] <= now or is_over):
                due.remove(one)
                _, number, fault, repair = one
                if repair is not None:
                    self._was_full = self._was_full or (is_over and repair == self._site.free_disk)
                    repair()
                elif fault is not None:
                    broken, repair = carry_out(self._site, fault)
                    self._say(f"  {now:6.2f} {fault.kind}: {broken}, for {fault.for_s} s")
                    if repair is not None:
                        due.append((now + fault.for_s, number, None, repair))
            if is_over and not due:
                return []
            if now > ENDS_WITHIN_S:
                left = self._site.left()
                self._site.kill_left()
                return [f"does not end within {ENDS_WITHIN_S:g} s: {left}"]
            time.sleep(LOOK_S)

    def _left(self) -> list[str]:
        limit_s = self._round.orphan_grace_s + GONE_AFTER_GRACE_S
        deadline = time.monotonic() + limit_s
        while left := self._site.left():
            if time.monotonic() > deadline:
                self._site.kill_left()
                return [f"left {limit_s:g} s after the end: {one}" for one in left]
            time.sleep(LOOK_S)
        return []

"""Carries out one fault at a site, and repairs it."""

import contextlib
import os
import signal
from collections.abc import Callable

from protocol.machine.procfs import parent_of
from tests.faults.chaos.schedule import Fault
from tests.faults.chaos.site import Site

Repair = Callable[[], None]


def carry_out(site: Site, fault: Fault) -> tuple[str, Repair | None]:
    """Break something; return what was broken, and how it is repaired once the fault's time is over."""
    match fault.kind:
        case "cut" | "reset" | "lossy" | "delay":
            getattr(site, fault.kind)(fault.pick)
            return "the network", site.heal
        case "full-disk":
            site.fill_disk()
            return "the disk", site.free_disk
        case "stall":
            site.stall()
            return "the file system", site.resume
        case "blocked-stop":
            site.stall()
            _signal(site.runs(), signal.SIGTERM)
            return "the file system and the run", site.resume
        case "clock-jump":
            site.jump_clock(fault.pick)
            return "the time of day", site.correct_clocks
        case "pause":
            site.pause(fault.pick)
            return "all clocks", None
        case "suspend":
            site.suspend()
            return "the job", site.unsuspend
        case "power-off":
            site.power_off(fault.pick)
            return "a node", None
        case _:
            pass
    pids = _targets(site, fault)
    if fault.kind.startswith("stop"):
        _signal(pids, signal.SIGSTOP)
        return f"pids {pids}", lambda: _signal(pids, signal.SIGCONT)
    number = {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM}.get(fault.kind, signal.SIGKILL)
    _signal(pids, number)
    return f"pids {pids}", None


def _targets(site: Site, fault: Fault) -> list[int]:
    what = fault.kind.partition("-")[2]
    match what:
        case "run" | "":
            return site.runs()
        case "controller":
            return site.controllers()
        case "task":
            return _picked(site.tasks(), fault.pick)
        case "guardian":
            return _picked(site.guardians(), fault.pick)
        case "agent":
            return _picked(site.agents(), fault.pick)
        case "all":
            return [*site.controllers(), *site.guardians(), *site.agents()]
        case "agent-and-guardian" | "node":
            pids = _picked(site.agents(), fault.pick)
            return [*(parent_of(pid) for pid in pids), *pids]
        case _:
            raise ValueError(fault.kind)


def _picked(pids: list[int], pick: float) -> list[int]:
    return [pids[min(int(pick * len(pids)), len(pids) - 1)]] if pids else []


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        if pid > 1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

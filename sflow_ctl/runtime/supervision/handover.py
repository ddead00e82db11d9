"""Gives the supervisor what another controller needs to take the run over. Called by `run/workflow.py` and the controller."""

import contextlib
import os
from pathlib import Path

from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.assembly.parts import Record
from sflow_ctl.runtime.fleet.fleet import Fleet
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.plan_file import encode_plan
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.planning import PlannedRun
from sflow_ctl.runtime.supervision.kept import KeptAgent, KeptStep
from sflow_ctl.runtime.supervision.lifeline import lifeline
from sflow_ctl.runtime.supervision.succession import Succession, written
from sflow_ctl.runtime.supervision.supervisor import MAX_DESCRIPTORS


def hand_over_run(planned: PlannedRun, options: RunOptions, fleet: Fleet, record: Record) -> None:
    """Give the supervisor the state of the run that is in no file, and its open ports; again when its agents have changed.

    Does nothing without a supervisor.
    """
    line = lifeline()
    if line is None:
        return
    guards = _guards() if planned.jobs else {}
    ports = fleet.link.transport.ports()
    client_ports = fleet.clients.ports()
    doors = fleet.link.transport.doors()
    kept = fleet.launcher.kept()
    agents = [(one, number) for one, number in kept if isinstance(one, KeptAgent)]
    steps = [(one, number) for one, number in kept if isinstance(one, KeptStep)]
    descriptors = [
        *(port.descriptor for port in (*ports, *client_ports)),
        *doors.values(),
        *(one for _, one in agents),
        *(one for _, one in steps),
        *guards.values(),
    ]
    if len(descriptors) >= MAX_DESCRIPTORS:
        return
    admission = fleet.link.transport.admission
    succession = Succession(
        run_directory=record.directory.path.absolute(),
        run_id=planned.run_id,
        incarnation=record.facts.incarnation,
        lineage=record.lineage or record.facts.incarnation,
        plan=b"".join(encode_plan(planned.plan)) if SECRETS.mask else b"",
        secrets=SECRETS.values(),
        settings=planned.settings,
        here=planned.here,
        jobs=_jobs(planned),
        is_quiet=options.quiet,
        log_level=options.log_level,
        keys=fleet.keys,
        node_keys={} if admission is None else admission.admitted(),
        nonce=fleet.nonce,
        common=fleet.common,
        configs=tuple(fleet.configs),
        times=fleet.link.times,
        missing=fleet.missing,
        fence_s=fleet.fence_s,
        resumed=_resumed(record),
        endpoints=tuple(port.endpoint for port in ports),
        client_endpoints=tuple(port.endpoint for port in client_ports),
        doors=tuple(doors),
        agents=tuple(agent for agent, _ in agents),
        steps=tuple(step for step, _ in steps),
        guards=tuple(guards),
    )
    memory = written(succession)
    line.keep((memory, *descriptors))
    os.close(memory)
    if planned.jobs and not guards:  # a job of the run's own ends with its supervisor
        from sflow_ctl.runtime.supervision.testament import (
            leave,
        )  # only agents elsewhere outlive the supervisor

        leave(succession)


def end_succession(directory: Path) -> None:
    """Tell the supervisor that the run has ended: nothing is left to be taken over, and no key is needed any more."""
    for name in (layout.SUCCESSION, layout.CONTROLLER, layout.CHECKPOINT):
        with contextlib.suppress(OSError):
            (directory / name).unlink(missing_ok=True)
    line = lifeline()
    if line is not None:
        line.finish()


def _guards() -> dict[int, int]:
    from sflow_ctl.runtime.slurm.own_allocation import held

    return held()


def _jobs(planned: PlannedRun) -> bytes:
    if not planned.jobs:
        return b""
    from sflow_ctl.runtime.supervision.rare import Jobs, encoded

    return encoded(Jobs(tuple((job.allocation, job.backend) for job in planned.jobs)))


def _resumed(record: Record) -> bytes:
    if not record.prior:
        return b""
    from sflow_ctl.runtime.supervision.rare import Resumed, encoded

    return encoded(Resumed(record.prior, record.resumed))

"""Checks tasks on the hosts of a docker backend: their containers run there, everything else of them runs here.

Called for each task of such a backend, by `phases/tasks.py`.
"""

from protocol.messages.rank_spec import Container
from protocol.text.listing import listed
from sflow_ctl.format import schema
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.tasks.probes import listed_probes

SHOWN = 5


def check_on_hosts(
    task: schema.Task,
    backend: schema.Backend,
    container: Container | None,
    operator: str,
    findings: Findings,
) -> None:
    """Refuse what cannot be done on another machine's engine, and warn of what is done here. Raises: UnplannableError."""
    if container is None:
        what = f'task "{task.name}" runs on this machine, not on hosts of backend "{backend.name}": '
        what += f'operator "{operator}" starts no container'
        where = findings.loaded.where(
            "tasks", task.name, "operator" if task.operator is not None else "backend"
        )
        findings.warn("runs-here", what, where, "leave the operator out, or use one of type docker_run")
        return
    if container.engine in ("apptainer", "enroot"):
        what = f'task "{task.name}": {container.engine} starts containers on its own machine, '
        what += f'not on hosts of backend "{backend.name}"'
        raise UnplannableError("operator-unsupported", what, "use docker or podman", ("operator",))
    if isinstance(task.ports, dict) and task.ports:
        what = f'task "{task.name}": ports are leased on this machine, and its container runs on a host of backend '
        what += f'"{backend.name}"'
        raise UnplannableError(
            "needs-agent", what, "write the ports as a list of numbers: - port: 8000", ("ports",)
        )
    _check_ports(task, backend, findings)
    if task.checkpoint is not None:
        what = f'task "{task.name}": checkpoints are looked for on this machine, and its container runs on a host of backend '
        what += f'"{backend.name}"'
        raise UnplannableError(
            "needs-agent", what, "drop checkpoint, or run it on this machine", ("checkpoint",)
        )
    if task.resources is not None and task.resources.gpus is not None:
        what = f'backend "{backend.name}": GPUs of hosts are given out by number; whether others use them is unknown'
        findings.warn("gpus-unchecked", what, findings.loaded.where("backends", backend.name, "hosts"))


def _check_ports(task: schema.Task, backend: schema.Backend, findings: Findings) -> None:
    """Refuse a port that cannot be asked from here on any of the hosts, and warn where it is some. Raises: UnplannableError."""
    hosts = backend.hosts or []
    unknown = [host.name for host in hosts if host.ip_address is None]
    if not unknown:
        return
    for kind in ("readiness", "failure"):
        for path, probe in listed_probes(task, kind):
            if not any(_is_hosts_port(one) for one in (probe, *(probe.all or ()), *(probe.any or ()))):
                continue
            what = f'task "{task.name}": its port is asked from this machine, and {listed(unknown, SHOWN)} of backend '
            what += f'"{backend.name}" {"has" if len(unknown) == 1 else "have"} no ip_address'
            hint = "add ip_address to the host, or host to tcp_port"
            if len(unknown) == len(hosts):
                raise UnplannableError("address-unknown", what, hint, path)
            findings.warn("address-unknown", what, findings.loaded.where("tasks", task.name, *path), hint)


def _is_hosts_port(condition: schema.Condition) -> bool:
    return condition.tcp_port is not None and condition.tcp_port.host in (None, "")

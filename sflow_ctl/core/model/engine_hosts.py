"""What changes for a rank whose container runs on a host of a docker backend. Called for each rank by `rank_specs`."""

from msgspec.structs import replace

from protocol.messages.checks import Check, Probe, TcpCheck
from protocol.messages.rank_spec import Container
from sflow_ctl.plan.assignment import UNKNOWN_HOST
from sflow_ctl.plan.model import PlannedNode


def container_on(container: Container | None, node: PlannedNode) -> Container | None:
    """Return the container as the engine of a node's machine starts it."""
    host = node.engine_host
    if container is None or host is None:
        return container
    return replace(
        container,
        docker_host=host.docker_host,
        context=host.context,
        mounts=(*container.mounts, *host.mounts),
        extra_args=(*container.extra_args, *host.extra_args),
    )


def probes_on(probes: tuple[Probe, ...], node: PlannedNode) -> tuple[Probe, ...]:
    """Return the probes with checks of the node's own ports made from outside: its agent is on another machine."""
    if node.engine_host is None or node.address == UNKNOWN_HOST:
        return probes
    return tuple(_from_outside(probe, node.address) for probe in probes)


def _from_outside(probe: Probe, address: str) -> Probe:
    def told(check: Check) -> Check:
        is_own = isinstance(check, TcpCheck) and check.host is None
        return replace(check, host=address, owner="any") if is_own else check

    return replace(
        probe,
        checks=tuple(map(told, probe.checks)),
        also=tuple(_from_outside(one, address) for one in probe.also),
    )

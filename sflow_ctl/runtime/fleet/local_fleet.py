"""Makes the fleet of a run on this machine: agents as local processes, which reach the controller through their doors."""

import os
import time

from protocol.machine.prctl import hide_memory
from sflow_ctl.runtime.fleet.fleet import (
    ORPHANS_END_WITHIN_S,
    Fleet,
    FleetRequest,
    check_gpus,
    common_config,
    local_configs,
)
from sflow_ctl.runtime.fleet.keys import RunKeys
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.peers.peer import LinkTimes
from sflow_ctl.runtime.transport.client_port import ClientPort
from sflow_ctl.runtime.transport.local import LocalTransport
from sflow_ctl.runtime.transport.transport import Transport

LOCAL_ORPHAN_GRACE_S = 10.0
LOOPBACK = "127.0.0.1"


def local_fleet(request: FleetRequest, launcher: LocalLauncher) -> Fleet:
    """Make a fleet whose agents start with the run; where real GPUs may be given out, start them now and ask.

    Raises: LaunchError; nothing of the fleet is left then.
    """
    plan, settings = request.plan, request.settings
    hide_memory()
    grace_s = settings.orphan_grace_s or LOCAL_ORPHAN_GRACE_S
    times = LinkTimes(lost_after_s=settings.lost_after_s, orphan_grace_s=grace_s)
    keys, transport = _transport(request, launcher)
    link = FleetLink(transport, request.generation.incarnation, times, time.monotonic())
    clients = ClientPort(keys, (LOOPBACK,))
    nonce = os.urandom(16).hex()
    common = common_config(request, keys, link, nonce, grace_s)
    configs = local_configs(common, plan.nodes, keys, request.options)
    fence_s = grace_s + ORPHANS_END_WITHIN_S
    fleet = Fleet(launcher, link, clients, keys, nonce, configs, common, fence_s=fence_s)
    if any(node.gpus and not config.simulated_gpus for node, config in zip(plan.nodes, configs, strict=True)):
        from sflow_ctl.runtime.fleet.registration import wait_for_agents

        names = {node.index: node.name for node in plan.nodes}
        try:
            launcher.start(configs)
            agents = wait_for_agents(link, launcher, names, settings.join_within_s, len(names))
            fleet.warnings = check_gpus(plan, agents.inventories(), request.options)
        except BaseException:
            launcher.end()
            link.close()
            clients.close()
            raise
        fleet.early = list(agents.joined.values())
    return fleet


def _transport(request: FleetRequest, launcher: LocalLauncher) -> tuple[RunKeys, Transport]:
    """Return what the agents connect to, and the keys that this takes. Raises: LaunchError."""
    count = len(request.plan.nodes)
    if request.settings.agent_link == "network":
        from sflow_ctl.runtime.transport.network import NetworkTransport  # ZeroMQ

        keys = RunKeys.make(count)
        return keys, NetworkTransport(keys, (LOOPBACK,))
    local = LocalTransport(count)
    launcher.open_door = local.open
    return RunKeys.for_clients(), local

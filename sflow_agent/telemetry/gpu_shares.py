"""Gives each rank its share of the GPUs: their time, their energy, and what of their memory its processes have. Pure.

A GPU belongs to the ranks whose processes have it, in equal shares; while no process has it, to the ranks that the plan gave it,
because no other task can use it meanwhile. A rank that has another GPU than the plan gave it is noted, once for each GPU.
"""

from collections.abc import Mapping, Sequence

from protocol.ids import RankId
from sflow_agent.telemetry.looks import GpuLook
from sflow_agent.telemetry.meters import RankMeter

SEEN_TIMES = 2
"""A GPU that a process has at so many looks in a row is not one that it only asked for its name."""


class GpuShares:
    """The GPUs of a node between two looks."""

    def __init__(self) -> None:
        self._last: dict[str, GpuLook] = {}
        self._others: dict[tuple[RankId, str], int] = {}
        """How often in a row a rank had a GPU that it should not have."""

    def take(
        self,
        looks: Sequence[GpuLook],
        owned: Mapping[int, RankId],
        planned: Mapping[RankId, tuple[int, ...]],
        meters: Mapping[RankId, RankMeter],
    ) -> list[str]:
        """Share the time since the last look; return sentences about GPUs that ranks should not have.

        `planned` are the GPUs of each living rank by the plan.
        """
        held: dict[RankId, dict[str, GpuLook]] = {}
        knows_users = any(look.memory_of is not None for look in looks)
        for meter in meters.values():
            meter.gpus = 0 if knows_users and meter.has_gpus else None
            meter.gpu_memory_mib = None
        for look in looks:
            takers = self._holders(look, owned, meters)
            for rank in takers:
                held.setdefault(rank, {})[look.gpu.uuid] = look
            if not takers:
                takers = {rank for rank, gpus in planned.items() if look.gpu.index in gpus and rank in meters}
            self._share(look, takers, meters)
            self._last[look.gpu.uuid] = look
        return self._misplaced(held, planned, meters, looks)

    def _holders(
        self, look: GpuLook, owned: Mapping[int, RankId], meters: Mapping[RankId, RankMeter]
    ) -> set[RankId]:
        """Return the ranks whose processes have a GPU, and note that they have it."""
        holders: set[RankId] = set()
        for pid, memory_mib in (look.memory_of or {}).items():
            rank = owned.get(pid)
            meter = meters.get(rank) if rank is not None else None
            if rank is None or meter is None:
                continue
            holders.add(rank)
            meter.gpus = (meter.gpus or 0) | 1 << look.gpu.index
            if memory_mib is not None:
                meter.gpu_memory_mib = (meter.gpu_memory_mib or 0) + memory_mib
        return holders

    def _share(self, look: GpuLook, takers: set[RankId], meters: Mapping[RankId, RankMeter]) -> None:
        for rank in takers:
            meters[rank].has_gpus = True
        before = self._last.get(look.gpu.uuid)
        if before is None or not takers:
            return
        elapsed_s = look.at - before.at
        energy_mj = _energy_mj(before, look, elapsed_s)
        for rank in takers:
            meter = meters[rank]
            meter.gpu_busy_ms += look.values.get("percent", 0) * elapsed_s * 10 / len(takers)
            if energy_mj is not None:
                meter.energy_mj += energy_mj / len(takers)
                meter.has_energy = True

    def _misplaced(
        self,
        held: Mapping[RankId, Mapping[str, GpuLook]],
        planned: Mapping[RankId, tuple[int, ...]],
        meters: Mapping[RankId, RankMeter],
        looks: Sequence[GpuLook],
    ) -> list[str]:
        taken = {index for gpus in planned.values() for index in gpus}
        seen: dict[tuple[RankId, str], int] = {}
        said: list[str] = []
        uuids = {look.gpu.index: look.gpu.uuid for look in looks}
        for rank, gpus in held.items():
            own = planned.get(rank, ())
            for uuid, look in gpus.items():
                is_right = look.gpu.index in own or (not own and look.gpu.index not in taken)
                if is_right or uuid in meters[rank].other_gpus:
                    continue
                count = seen[rank, uuid] = self._others.get((rank, uuid), 0) + 1
                if count >= SEEN_TIMES:
                    meters[rank].other_gpus[uuid] = None
                    said.append(_sentence(rank, look, own, planned, uuids))
        self._others = seen
        return said


def _energy_mj(before: GpuLook, look: GpuLook, elapsed_s: float) -> float | None:
    """Return the energy between two looks: by the GPU's counter, else by its power; None where it has neither."""
    counters = before.values.get("energy_mj"), look.values.get("energy_mj")
    if counters[0] is not None and counters[1] is not None and counters[1] >= counters[0]:
        return float(counters[1] - counters[0])
    powers = [one.values["power_mw"] for one in (before, look) if "power_mw" in one.values]
    return sum(powers) / len(powers) * elapsed_s if powers else None


def _sentence(
    rank: RankId,
    look: GpuLook,
    own: tuple[int, ...],
    planned: Mapping[RankId, tuple[int, ...]],
    uuids: Mapping[int, str],
) -> str:
    owner = next((other for other, gpus in planned.items() if other != rank and look.gpu.index in gpus), None)
    given = ", ".join(f"{index} ({uuids[index]})" if index in uuids else str(index) for index in own)
    plan = f"the plan gave it GPU {given}" if own else "the plan gave it none"
    of = f", which is planned for {owner.attempt.task}" if owner is not None else ""
    return f"{rank} computes on GPU {look.gpu.index} ({look.gpu.uuid}){of}; {plan}: look for a CUDA_VISIBLE_DEVICES in its script"

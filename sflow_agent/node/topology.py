"""Which GPUs of a node are near each other, and which network cards are near each. Pure, but for `read_buses`.

NVLink domains come from the driver (`nvml.py`), NUMA nodes and network cards from sysfs. `inventory.py` calls this.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import msgspec

from protocol.messages.node import Gpu

UNKNOWN = -1


class Bus(msgspec.Struct, frozen=True):
    """Where a device is: its directory under /sys/devices, and its NUMA node; -1 if that is unknown."""

    path: str
    numa: int = UNKNOWN


def domains(count: int, linked: Iterable[tuple[int, int]]) -> list[int]:
    """Return the number of each GPU's NVLink domain: the GPUs that reach each other over NVLink, directly or not."""
    domain = list(range(count))
    for one, other in linked:
        low, high = sorted((domain[one], domain[other]))
        domain = [low if number == high else number for number in domain]
    return domain


def nearest_cards(gpu: Bus, cards: Mapping[str, Bus]) -> tuple[str, ...]:
    """Return the network cards that share most of the way with a GPU: a PCI switch, else a root port, else the NUMA node.

    None where all are on other NUMA nodes, or nothing is known.
    """
    shared = {name: _common(gpu.path, card.path) for name, card in cards.items()}
    most = max(shared.values(), default=0)
    if most > 0:
        return tuple(sorted(name for name, steps in shared.items() if steps == most))
    if gpu.numa == UNKNOWN:
        return ()
    return tuple(sorted(name for name, card in cards.items() if card.numa == gpu.numa))


def _common(one: str, other: str) -> int:
    """Return how many steps two PCI devices have in common, from the host bridge on; 0 for different bridges."""
    pairs = zip(_pci_steps(one), _pci_steps(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _pci_steps(path: str) -> list[str]:
    parts = Path(path).parts
    begin = next((at for at, part in enumerate(parts) if part.startswith("pci")), len(parts))
    return list(parts[begin:])


def with_topology(
    gpus: Sequence[Gpu], buses: Sequence[str], linked: Iterable[tuple[int, int]], root: Path
) -> tuple[Gpu, ...]:
    """Return the GPUs with what is known of their surroundings; `buses` are their PCI names, "" if unknown."""
    cards = read_cards(root)
    places = [read_bus(root, bus) for bus in buses]
    numbers = domains(len(gpus), linked)
    return tuple(
        msgspec.structs.replace(
            gpu,
            numa=place.numa,
            domain=number,
            cards=nearest_cards(place, cards) if place.path else (),
        )
        for gpu, place, number in zip(gpus, places, numbers, strict=True)
    )


def read_bus(root: Path, name: str) -> Bus:
    """Return where a PCI device is; NVML writes its domain with eight digits, sysfs with four."""
    if not name:
        return Bus("")
    domain, _, rest = name.lower().partition(":")
    return _bus_of(root / "bus" / "pci" / "devices" / f"{int(domain, 16):04x}:{rest}")


def read_cards(root: Path) -> dict[str, Bus]:
    """Return the InfiniBand and RoCE cards of the node by name."""
    try:
        names = sorted(one.name for one in (root / "class" / "infiniband").iterdir())
    except OSError:
        return {}
    found = {name: _bus_of(root / "class" / "infiniband" / name / "device") for name in names}
    return {name: bus for name, bus in found.items() if bus.path}


def _bus_of(link: Path) -> Bus:
    try:
        path = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return Bus("")
    try:
        numa = int((path / "numa_node").read_text())
    except (OSError, ValueError):
        numa = UNKNOWN
    return Bus(str(path), numa)

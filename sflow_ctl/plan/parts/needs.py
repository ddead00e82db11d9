"""What a task needs of each of its nodes beside GPUs. A part of `PlannedTask`."""

import msgspec

from protocol.text.counted import counted


class HostNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """CPUs and memory that a task asks for on each of its nodes: they decide when it starts, and limit nothing afterwards."""

    cpus: int = 0
    memory_bytes: int = 0

    def text(self) -> str:
        """Return `4 CPUs and 8 GiB of memory`."""
        parts = [counted(self.cpus, "CPU")] if self.cpus else []
        if self.memory_bytes:
            parts.append(f"{self.memory_bytes / (1 << 30):.3g} GiB of memory")
        return " and ".join(parts)

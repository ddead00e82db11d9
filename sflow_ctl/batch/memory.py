"""The memory of a Slurm job, which can be asked for in one way only: per node, per CPU or per GPU.

Source: sbatch(1): "The --mem, --mem-per-cpu and --mem-per-gpu options are mutually exclusive."
"""

from collections.abc import Sequence

from protocol.text.lazy_pattern import lazy_pattern

MEMORY_VARIABLES = ("SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU", "SBATCH_MEM_PER_NODE")
"""Environment variables that set the memory of a job for sbatch. Source: sbatch(1), Input Environment Variables."""
_NAME = r"--mem(?:-per-[a-z]+)?(?:[=\s]|$)"
_OPTION, _ASKS = lazy_pattern(_NAME), lazy_pattern(rf"(?:^|\s){_NAME}")


def asks_for_memory(text: str) -> bool:
    """Return whether the user's options request memory; Slurm refuses two ways at once."""
    return _ASKS.search(text) is not None


def without_replaced_memory(general: Sequence[str], specific: Sequence[str]) -> tuple[str, ...]:
    """Return the words of `general` without those about memory, if `specific` asks for memory in any way."""
    if not any(map(asks_for_memory, specific)):
        return tuple(general)
    kept: list[str] = []
    takes_next = False
    for word in general:
        if takes_next and not word.startswith("-"):
            takes_next = False
        elif _OPTION.match(word):
            takes_next = "=" not in word and len(word.split()) == 1
        else:
            takes_next = False
            kept.append(word)
    return tuple(kept)

"""What one round of chaos does, decided by its seed alone: the workflow, the options of the run, and the faults.

Pure. `workload.py` writes the workflow, `rounds.py` carries the faults out.
"""

import random

import msgspec

FIRST_FAULT_S, LAST_FAULT_S = 0.6, 6.0
LONGEST_FAULT_S = 7.0
BLOCKED_STOP_S = 25.0
"""Longer than a run waits for a file system once a signal has stopped it."""
MAX_TASKS = 7


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One task of the workflow."""

    name: str
    kind: str
    """`job`, `gang` or `service`."""
    replicas: int = 1
    lines: int = 20
    """How many lines it prints."""
    pause_s: float = 0.05
    """The time between two lines."""
    nodes: int = 1
    gpus: int = 0
    after: tuple[str, ...] = ()
    value: int | None = None
    """What it prints as its output."""
    reads: str = ""
    """The task whose output it checks."""
    calls: str = ""
    """The service that it connects to at its start."""
    is_fixed: bool = False
    """It names its node, so it cannot move."""
    on_node_lost: str = ""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that breaks at a time of a run."""

    at_s: float
    kind: str
    pick: float
    """Which one of the candidates, from 0 to 1."""
    for_s: float = 0.0
    """When it is repaired."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round: a run, and resumes of it until everything is completed."""

    seed: int
    nodes: int
    spares: int
    gpus_per_node: int
    lost_after_s: int
    orphan_grace_s: int
    spools_logs: bool
    works: tuple[Work, ...]
    faults: tuple[tuple[Fault, ...], ...]
    """Those of the run, and of each of its first resumes."""

    @property
    def has_stalls(self) -> bool:
        """Return whether its run directory is on a file system that can stall."""
        return self._has("stall", "blocked-stop")

    @property
    def has_jumps(self) -> bool:
        """Return whether its processes have clocks that can jump."""
        return self._has("clock-jump", "pause")

    @property
    def uses_network(self) -> bool:
        """Return whether its local agents reach the controller through a network, which can be cut: half of those rounds."""
        return self._has("cut", "reset", "lossy", "delay") and self.seed % 2 == 0

    def _has(self, *kinds: str) -> bool:
        return any(fault.kind in kinds for faults in self.faults for fault in faults)


KINDS: dict[str, int] = {
    "kill-run": 2,
    "kill-controller": 3,
    "kill-agent": 4,
    "kill-guardian": 2,
    "kill-agent-and-guardian": 2,
    "kill-task": 3,
    "stop-controller": 3,
    "stop-agent": 3,
    "stop-guardian": 1,
    "stop-node": 2,
    "stop-all": 2,
    "stop-task": 1,
    "cut": 3,
    "reset": 3,
    "lossy": 2,
    "delay": 2,
    "full-disk": 2,
    "stall": 3,
    "blocked-stop": 1,
    "clock-jump": 2,
    "pause": 2,
    "interrupt": 1,
    "terminate": 1,
    "power-off": 3,
    "suspend": 2,
}
"""Every kind of fault, with its weight."""
RIG_KINDS = tuple(KINDS)
LOCAL_KINDS = tuple(kind for kind in KINDS if kind not in ("power-off", "suspend"))


def decide(seed: int, kinds: tuple[str, ...] = LOCAL_KINDS, *, is_short: bool = False) -> Round:
    """Return the round of a seed; a short one has fewer tasks and faults."""
    dice = random.Random(seed)
    nodes = dice.randint(2, 4)
    gpus = dice.choice((0, 2, 4))
    spares = dice.choice((0, 0, 1))
    works = _works(dice, nodes, gpus, 4 if is_short else dice.randint(3, MAX_TASKS))
    runs = 1 if is_short else dice.choice((1, 1, 2))
    return Round(
        seed=seed,
        nodes=nodes + spares,
        spares=spares,
        gpus_per_node=gpus,
        lost_after_s=dice.choice((2, 4)),
        orphan_grace_s=dice.choice((2, 5)),
        spools_logs=dice.random() < 0.3,
        works=works,
        faults=tuple(_faults(dice, kinds, 2 if is_short else dice.randint(1, 4)) for _ in range(runs)),
    )


def _works(dice: random.Random, nodes: int, gpus: int, count: int) -> tuple[Work, ...]:
    works: list[Work] = []
    for number in range(count):
        kind = dice.choices(("job", "gang", "service"), (5, 2, 2))[0]
        earlier = [work for work in works if work.kind != "service"]
        services = [work for work in works if work.kind == "service" and work.replicas == 1]
        after = tuple(work.name for work in dice.sample(works, min(len(works), dice.randint(0, 2))))
        reads = dice.choice(earlier).name if earlier and dice.random() < 0.4 else ""
        reads = reads if any(work.name == reads and work.value is not None for work in works) else ""
        calls = dice.choice(services).name if services and dice.random() < 0.6 else ""
        replicas = dice.randint(1, 3) if kind == "job" and dice.random() < 0.5 else 1
        works.append(
            Work(
                name=f"{kind[0]}{number}",
                kind=kind,
                replicas=replicas,
                lines=dice.randint(5, 60),
                pause_s=dice.choice((0.0, 0.02, 0.05, 0.1)),
                nodes=dice.randint(1, nodes) if kind == "gang" else 1,
                gpus=_gpus(dice, gpus, kind, works),
                after=tuple(dict.fromkeys((*after, *filter(None, (reads, calls))))),
                value=dice.randint(1, 10**6) if kind == "job" and replicas == 1 else None,
                reads=reads,
                calls=calls,
                is_fixed=kind == "job" and dice.random() < 0.15,
                on_node_lost=dice.choice(("", "", "elsewhere", "fail")),
            )
        )
    return tuple(works)


def _gpus(dice: random.Random, gpus: int, kind: str, works: list[Work]) -> int:
    """Return the GPUs on each node of the next task: at most one service keeps one, so that all others find room."""
    wanted = dice.randint(1, max(1, gpus - 1)) if gpus and dice.random() < 0.6 else 0
    if kind == "service":
        return 0 if any(work.gpus for work in works if work.kind == "service") else min(wanted, 1)
    return wanted


def _faults(dice: random.Random, kinds: tuple[str, ...], count: int) -> tuple[Fault, ...]:
    weights = [KINDS[kind] for kind in kinds]
    return tuple(sorted((_fault(dice, kinds, weights) for _ in range(count)), key=lambda fault: fault.at_s))


def _fault(dice: random.Random, kinds: tuple[str, ...], weights: list[int]) -> Fault:
    at_s = round(dice.uniform(FIRST_FAULT_S, LAST_FAULT_S), 2)
    kind, pick = dice.choices(kinds, weights)[0], round(dice.random(), 3)
    for_s = round(dice.choice((0.3, 1.0, dice.uniform(1.0, LONGEST_FAULT_S))), 2)
    return Fault(at_s=at_s, kind=kind, pick=pick, for_s=BLOCKED_STOP_S if kind == "blocked-stop" else for_s)

"""Warnings at the start of a run, once its agents have described their nodes: only important ones that cost no time to find.

GPUs are checked elsewhere, before a run begins (`plan/gpu_checks.py`).
"""

from collections.abc import Iterator, Mapping, Sequence

from protocol.messages.facts import Hello, NodeDescribed
from sflow_ctl.doctor.verdicts import names, seconds

LEAST_OPEN_FILES = 4096
"""The limit up to which a program can raise its own."""
CLOCK_NS = 1_000_000_000


class StartChecks:
    """Collects the descriptions of nodes, and returns warnings once all joined nodes have sent theirs."""

    def __init__(
        self,
        names: Sequence[str],
        hellos: Mapping[int, Hello],
        welcomed_ns: Mapping[int, int],
        is_spooled: bool,
    ) -> None:
        """`names` are the nodes'; `hellos` are the first of each joined node: at later ones our own tasks run.

        `welcomed_ns` is when each was first answered, wall time. Both grow meanwhile. `is_spooled`: the run
        directory is not expected to be shared.
        """
        self._names = names
        self._hellos = hellos
        self._welcomed_ns = welcomed_ns
        self._is_spooled = is_spooled
        self._ahead_ns: dict[int, tuple[int, int]] = {}
        """(least, most) by which a node's clock is ahead of ours."""
        self._judged: set[int] = set()

    def described(
        self, node: int, described: NodeDescribed, wall_ns: int, is_awaiting: bool = False
    ) -> list[str]:
        """Take in a node's description; return the new sentences about all nodes once no description is missing.

        The description was made after our welcome had left and before it arrived: the node's clock must be
        between these two.
        """
        clock_ns = described.clock_ns
        self._ahead_ns[node] = (
            (clock_ns - wall_ns, clock_ns - self._welcomed_ns[node]) if clock_ns else (0, 0)
        )
        if is_awaiting or self._ahead_ns.keys() != self._hellos.keys():
            return []
        new = sorted(self._hellos.keys() - self._judged)
        self._judged.update(new)
        return list(self._warnings(new))

    def _warnings(self, nodes: list[int]) -> Iterator[str]:
        hellos = [(self._names[node], self._hellos[node]) for node in nodes]
        elsewhere = [name for name, hello in hellos if not hello.shares_run_directory]
        if elsewhere and not self._is_spooled:
            yield (
                f"the run directory is not shared with {names(elsewhere)}: logs and declared outputs are sent, "
                "other files of tasks stay there; choose an --output-dir that all nodes share"
            )
        pinned: dict[str, list[str]] = {}
        for name, hello in hellos:
            has = hello.inventory
            if has.cpus_given is not None and has.cpus < min(has.cpus_given, has.cpus_online):
                text = f"{has.cpus} of the {has.cpus_given} CPUs that the job has there"
                pinned.setdefault(text, []).append(name)
        for text, where in pinned.items():
            yield (
                f"tasks on {names(where)} may run on {text} only: remove SLURM_CPU_BIND, taskset around sflow-ctl"
                " and bindings in `launch_flags`; request whole nodes (sbatch --exclusive)"
            )
        few: dict[int, list[str]] = {}
        for name, hello in hellos:
            _, hard = hello.inventory.open_files
            if 0 <= hard < LEAST_OPEN_FILES:
                few.setdefault(hard, []).append(name)
        for hard, where in few.items():
            yield f"tasks on {names(where)} may open {hard} files at most: raise `ulimit -Hn` before sflow-ctl starts"
        for node in nodes:
            least, most = self._ahead_ns[node]
            off_ns = least if least > CLOCK_NS else -most if most < -CLOCK_NS else 0
            if off_ns:
                way = "ahead of" if least > 0 else "behind"
                yield (
                    f"the clock of {self._names[node]} is {seconds(off_ns / 1e9)} {way} this host's:"
                    " times in logs do not compare; chronyd or ntpd must run there"
                )

"""What a run warns of once its agents have described their nodes: what costs nothing to know, and only what matters.

GPUs are not here: those are looked at before a run begins.
"""

from collections.abc import Iterator

from protocol.messages import Hello, NodeDescribed
from sflow_ctl.doctor.verdicts import names, seconds

LEAST_OPEN_FILES = 4096
"""The limit that a program can raise its own to."""
CLOCK_NS = 1_000_000_000


class StartChecks:
    """Collects what nodes say, and has warnings once all that have joined have described themselves."""

    def __init__(self, is_spooled: bool) -> None:
        """`is_spooled`: nobody expects the run directory to be shared."""
        self._is_spooled = is_spooled
        self._accepted_ns: dict[int, int] = {}
        self._joined: dict[int, tuple[str, Hello]] = {}
        self._clocks: dict[int, tuple[int, int]] = {}
        """(least, most) ns by which a node's clock is ahead of ours."""
        self._judged: set[int] = set()

    def accepted(self, node: int, wall_ns: int) -> None:
        """Its hello has been answered."""
        self._accepted_ns.setdefault(node, wall_ns)

    def joined(self, name: str, hello: Hello) -> None:
        """Only its first hello counts: later ones are of nodes where our own tasks run."""
        self._joined.setdefault(hello.node, (name, hello))

    def described(self, node: int, described: NodeDescribed, wall_ns: int) -> list[str]:
        """Its description has arrived; sentences about all nodes that are new, once nobody is waited for.

        The description was made after our welcome had left and before it arrived: between these two the node's clock
        must show what it says.
        """
        welcomed_ns = self._accepted_ns.get(node)
        if welcomed_ns is not None and described.clock_ns:
            self._clocks[node] = (described.clock_ns - wall_ns, described.clock_ns - welcomed_ns)
        else:
            self._clocks[node] = (0, 0)
        if self._clocks.keys() != self._joined.keys():
            return []
        new = sorted(self._joined.keys() - self._judged)
        self._judged.update(new)
        return list(self._warnings(new))

    def _warnings(self, nodes: list[int]) -> Iterator[str]:
        hellos = [self._joined[node] for node in nodes]
        elsewhere = [name for name, hello in hellos if not hello.shares_run_directory]
        if elsewhere and not self._is_spooled:
            yield (
                f"the run directory is not shared with {names(elsewhere)}: logs are sent, other files of tasks stay there;"
                " choose an --output-dir that all nodes share"
            )
        few: dict[int, list[str]] = {}
        for name, hello in hellos:
            _, hard = hello.inventory.open_files
            if 0 <= hard < LEAST_OPEN_FILES:
                few.setdefault(hard, []).append(name)
        for hard, where in few.items():
            yield f"tasks on {names(where)} may open {hard} files at most: raise `ulimit -Hn` before sflow-ctl starts"
        for node in nodes:
            least, most = self._clocks[node]
            off_ns = least if least > CLOCK_NS else -most if most < -CLOCK_NS else 0
            if off_ns:
                way = "ahead of" if least > 0 else "behind"
                yield (
                    f"the clock of {self._joined[node][0]} is {seconds(off_ns / 1e9)} {way} this host's:"
                    " times in logs do not compare; chronyd or ntpd must run there"
                )

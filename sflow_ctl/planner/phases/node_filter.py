"""Which hosts a backend may use: `include_nodes` and `exclude_nodes` of the file and of the command line.

Called for the nodes of a plan, and for the request of a Slurm job.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import evaluate_any
from sflow_ctl.planner.context import JobNode
from sflow_ctl.planner.findings import UnplannableError


class NodeFilter(Struct, frozen=True):
    """Names of hosts; without included ones all others than the excluded."""

    included: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @classmethod
    def of(cls, backend: schema.Backend, names: Mapping[str, Any], more: "NodeFilter") -> "NodeFilter":
        """Return the filter of a backend with that of the command line. Raises: UnplannableError, ExpressionError."""
        made = cls(
            _hosts((*backend.include_nodes, *more.included), names),
            _hosts((*backend.exclude_nodes, *backend.exclude, *more.excluded), names),
        )
        both = [host for host in made.included if host in made.excluded]
        if both:
            what = (
                f'backend "{backend.name}": {", ".join(both)} appear in both include_nodes and exclude_nodes'
            )
            raise UnplannableError(
                "conflicting-keys", what, "keep each host in one of them", ("exclude_nodes",)
            )
        return made

    @property
    def is_empty(self) -> bool:
        """Return whether all hosts may be used."""
        return not (self.included or self.excluded)

    def kept(self, nodes: Sequence[JobNode]) -> tuple[JobNode, ...]:
        """Return the nodes that may be used."""
        return tuple(
            node
            for node in nodes
            if node.name not in self.excluded and (not self.included or node.name in self.included)
        )

    def options(self) -> tuple[str, ...]:
        """Return the options of Slurm that ask for such nodes."""
        pairs = (("--nodelist", self.included), ("--exclude", self.excluded))
        return tuple(f"{option}={','.join(hosts)}" for option, hosts in pairs if hosts)


def _hosts(entries: Iterable[str], names: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the hosts in entries that are names, expressions, or lists with commas or blanks."""
    hosts: list[str] = []
    for entry in entries:
        value = evaluate_any(entry, names)
        for text in value if isinstance(value, list) else (value,):
            hosts += str(text).replace(",", " ").split()
    return tuple(dict.fromkeys(hosts))

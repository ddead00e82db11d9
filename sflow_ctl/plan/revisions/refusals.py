"""What a live run cannot take on of another plan, with the place in a workflow file and what to do instead. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from protocol.text.counted import counted
from sflow_ctl.plan.model import Plan, PlannedNode

_ANOTHER_RUN = "stop the run and begin another one"
_RESUME = "stop the run, and continue it with run --resume and this file"


class Refusal(NamedTuple):
    """A reason why a plan cannot be applied."""

    field: tuple[str, ...]
    """Where it is in a workflow file; empty for an option of the command line."""
    what: str
    hint: str


def refusals(old: Plan, new: Plan) -> list[Refusal]:
    """Return everything of the new plan that the run cannot take on."""
    return list(_refusals(old, new))


def _refusals(old: Plan, new: Plan) -> Iterator[Refusal]:
    if old.workflow != new.workflow:
        what = f"the run is of workflow {old.workflow}, this is workflow {new.workflow}"
        yield Refusal(("workflow", "name"), what, _ANOTHER_RUN)
    yield from _nodes(old.nodes, new.nodes)
    if (old.storage, old.upload_all) != (new.storage, new.upload_all):
        yield Refusal(("storage",), "where files are uploaded cannot change while a run lives", _RESUME)
    rules = (old.services_may_leave, old.late_is_final), (new.services_may_leave, new.late_is_final)
    if rules[0] != rules[1]:
        yield Refusal(
            (), "the run keeps to the rules of the version that it began with", "leave out --compat"
        )


def _nodes(old: tuple[PlannedNode, ...], new: tuple[PlannedNode, ...]) -> Iterator[Refusal]:
    """Yield each backend whose nodes are others."""
    for name in dict.fromkeys(node.backend for node in (*old, *new)):
        before, after = ([node for node in nodes if node.backend == name] for nodes in (old, new))
        if before == after:
            continue
        field = ("backends", name)
        if not before:
            yield Refusal(field, f"backend {name} is new: its nodes are not a part of this run", _RESUME)
        elif not after:
            what = f"no task uses backend {name} any more, and its nodes belong to this run"
            yield Refusal(field, what, _RESUME)
        else:
            yield Refusal(field, _changed_nodes(name, before, after), _RESUME)


def _changed_nodes(name: str, old: list[PlannedNode], new: list[PlannedNode]) -> str:
    if len(old) != len(new):
        has = counted(len(new), "node")
        return f"backend {name} has {has} instead of {len(old)}: the nodes of a live run stay as they are"
    pairs = list(zip(old, new, strict=True))
    fields = [
        field
        for field in PlannedNode.__struct_fields__
        if any(getattr(one, field) != getattr(other, field) for one, other in pairs)
    ]
    return f"backend {name} changed ({', '.join(fields)}): the nodes of a live run stay as they are"

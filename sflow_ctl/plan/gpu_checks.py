"""Checks that the nodes have the GPUs that a plan counts on, and that no other process uses them. Pure.

Called once, when the agents have connected and before anything else of a run exists.
"""

from collections.abc import Mapping

from protocol.errors import Finding
from protocol.messages.node import Gpu, GpuUser, Inventory
from protocol.text.counted import counted
from protocol.text.listing import listed
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan, PlannedNode

_SMALL_BYTES = 100 << 20
"""Memory that a process may hold without being reported: a server of MPS has 30 MB on each GPU."""
_SHOWN_NODES = 20


def missing_gpus(plan: Plan, inventories: Mapping[int, Inventory]) -> list[Finding]:
    """Report nodes with fewer GPUs than tasks may be given there; nodes on which no GPUs are counted are left out."""
    alike: dict[tuple[int, int, tuple[str, ...]], list[str]] = {}
    for node in plan.nodes:
        inventory = inventories.get(node.index)
        if inventory is None or node.gpus is None or not inventory.counts_gpus:
            continue
        has = len(inventory.gpus)
        if has < node.gpus:
            alike.setdefault((has, node.gpus, inventory.gpu_problems), []).append(node.name)
    findings = []
    for (has, wanted, problems), names in alike.items():
        what = f"{_nodes(names, 'has', 'each have')} {counted(has, 'GPU')} for this run; gpus_per_node is {wanted}"
        what = "; ".join((what, *problems))
        findings.append(
            Finding("gpus-missing", what, where=", ".join(names[:_SHOWN_NODES]), hint=_hint(plan, names[0]))
        )
    return findings


def small_gpus(plan: Plan, inventories: Mapping[int, Inventory]) -> list[Finding]:
    """Report nodes whose GPUs have less memory than tasks with `count: auto` were planned for."""
    alike: dict[tuple[str, int, int], list[str]] = {}
    for task in kinds_of(plan.tasks):
        wanted = task.placement.gpu_bytes
        for index in task.placement.nodes if wanted else ():
            inventory = inventories.get(index)
            sizes = (
                [gpu.memory_bytes for gpu in inventory.gpus if gpu.memory_bytes]
                if inventory is not None
                else []
            )
            if sizes and min(sizes) < wanted:
                names = alike.setdefault((task.base, wanted, min(sizes)), [])
                names += [name for name in [plan.nodes[index].name] if name not in names]
    findings = []
    for (task_name, wanted, least), names in alike.items():
        what = f"{_nodes(names, 'has a GPU', 'have GPUs')} with {_gib(least)}; task {task_name} needs {_gib(wanted)} on each"
        hint = f"plan for it: gpu_memory: {least >> 20}M in the backend; or ask for other nodes"
        findings.append(Finding("gpus-too-small", what, where=", ".join(names[:_SHOWN_NODES]), hint=hint))
    return findings


def simulated(plan: Plan, *, has_driver: bool, is_asked_for: bool) -> tuple[int, Finding | None]:
    """Return how many GPUs of this machine's agents are simulated, and a warning unless that was asked for.

    Only a single agent uses real GPUs, and only where there is a driver. Those of docker hosts are real unless asked for.
    """
    local = [
        node
        for node in plan.nodes
        if node.backend_type == "local" and (node.engine_host is None or is_asked_for)
    ]
    if has_driver and len(local) == 1 and not is_asked_for:
        return 0, None
    count = sum(_gpus_given(plan, node) for node in local)
    if count == 0 or is_asked_for:
        return count, None
    what = f"{counted(count, 'GPU')} {'is' if count == 1 else 'are'} simulated"
    why = f"{len(local)} agents share this machine" if has_driver else "no NVIDIA driver here"
    return count, Finding("simulated-gpus", f"{why}: {what}", hint="--simulate-gpus says that this is meant")


def _gpus_given(plan: Plan, node: PlannedNode) -> int:
    """Return how many GPUs of a node tasks may be given: all that it declares, or the numbers that tasks were given."""
    wanted = [
        max(len(task.placement.gpus), max(task.placement.gpus, default=-1) + 1, task.placement.gpus_per_node)
        for task in plan.tasks
        if node.index in task.placement.nodes
    ]
    most = max(wanted, default=0)
    return node.gpus if most and node.gpus is not None else most


def gpu_warnings(plan: Plan, inventories: Mapping[int, Inventory]) -> list[str]:
    """Return warnings that do not prevent a run: broken GPUs beside those it needs, and GPUs that were not counted."""
    alike: dict[str, list[str]] = {}
    wants_gpus = any(task.placement.gpus_per_node for task in plan.tasks)
    for node in plan.nodes:
        inventory = inventories.get(node.index)
        if inventory is None:
            continue
        for problem in inventory.gpu_problems if wants_gpus else ():
            alike.setdefault(problem, []).append(node.name)
        if node.gpus and wants_gpus and not inventory.counts_gpus:
            text = f"GPUs were not counted (no NVIDIA driver, none given by Slurm); gpus_per_node {node.gpus} is assumed"
            alike.setdefault(text, []).append(node.name)
    return [f"{_nodes(names)}: {text}" for text, names in alike.items()]


def gpus_in_use(plan: Plan, inventories: Mapping[int, Inventory]) -> list[tuple[str, str]]:
    """Return (node, sentence) for each GPU that another process uses, or whose memory is not free."""
    return [
        (node.name, f"GPU {gpu.index} is in use already: {use}")
        for node in plan.nodes
        if node.index in inventories
        for gpu in inventories[node.index].gpus
        if (use := use_of(gpu)) is not None
    ]


def use_of(gpu: Gpu) -> str | None:
    """Describe who uses a GPU; None if nothing does.

    If no process is visible (it may be in another container), a tenth of the memory counts.
    """
    users = [user for user in gpu.users if user.memory_bytes is None or user.memory_bytes >= _SMALL_BYTES]
    if users:
        return ", ".join(map(_user, users))
    if gpu.memory_bytes and gpu.used_bytes * 10 > gpu.memory_bytes:
        return (
            f"{_gib(gpu.used_bytes)} of {_gib(gpu.memory_bytes)}, by processes that cannot be seen from here"
        )
    return None


def _user(user: GpuUser) -> str:
    who = " of ".join(part for part in (user.program, user.owner) if part)
    size = "" if user.memory_bytes is None else f" with {_gib(user.memory_bytes)}"
    return f"pid {user.pid}{f' ({who})' if who else ''}{size}"


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _nodes(names: list[str], verb: str = "", verb_of_several: str = "") -> str:
    if len(names) == 1:
        return f"node {names[0]} {verb}".rstrip()
    return f"nodes {listed(names, _SHOWN_NODES)} {verb_of_several}".rstrip()


def _hint(plan: Plan, name: str) -> str:
    is_local = any(node.name == name and node.backend_type == "local" for node in plan.nodes)
    if is_local:
        return "correct gpus_per_node, or run without real GPUs with --simulate-gpus"
    return "ask Slurm for them (--gres=gpu:N or --gpus-per-node=N), leave the node out (--exclude), or correct gpus_per_node"

"""Whether two plans have the same work for a task, so that the result of one is the result of the other. Pure.

Everything that a plan says of a task is compared, except what `_NOT_WORK` lists: a field that is added to
`PlannedTask` counts as work until it is listed there. Called by `core/resume.py`.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from protocol.messages.checks import Probe
from protocol.messages.handover import CheckpointRules
from sflow_ctl.plan.artifact_mentions import MISSING, UNREADABLE, PlannedArtifactUse
from sflow_ctl.plan.graph import needs_text
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.parts.cells import BlockCall, LateItems, PlannedForeach

_NOT_WORK: dict[str, Any] = {
    # identity: a task is compared with the one of its name
    "name": "", "base": "", "replica_index": 0, "is_replicated": False, "key": "", "operator": "", "cell": None, "where": "",
    # place
    "backend": "", "assigned_arguments": (), "has_step_variables": False, "required_paths": (),
    "chooses_step_nodes": False,
    "elsewhere": None, "pinned": "", "lends_gpus": False, "keeps_gpus": False,
    "claims_nodes_until": None, "heeds_claims": False, "needs": None,
    # time, and what follows a failure or the end of the work
    "timeout_s": None, "deadlines_s": None, "wait_s": None, "hang": None, "stopping": None, "retries": None,
    "restart": None, "on_failure": "cancel", "on_node_lost": None, "min_ready": None,
    "quorum": None, "is_main": False, "finally_when": None,
    # how its output reaches its log, and where its files go: that is done again by itself
    "is_log_direct": False, "console": "all", "uploads": (),
    # words about it, and whether it is still wanted
    "labels": (), "progress": "",
    # compared by content
    "reads": (),
    "removed_in": 0, "when": None, "foreach": None,
}  # fmt: skip
"""Fields of `PlannedTask` that do not make other work, and the value that stands for any of theirs."""
_PLACED_VARIABLES = frozenset(
    (
        "CUDA_VISIBLE_DEVICES", "SFLOW_TASK_GPUS", "SFLOW_GPU_PLAN", "SFLOW_TASK_ASSIGNED_NODE_NAMES",
        "SFLOW_TASK_ASSIGNED_NODE_IPS", "SFLOW_BACKEND_JOB_ID", "SFLOW_BACKEND_NODELIST", "SFLOW_BACKEND_NUM_NODES",
    )
)  # fmt: skip
"""Variables that say where a task runs."""
_PLACED_OPTIONS = frozenset(("--jobid", "--nodelist", "--het-group"))
"""Options of a job step whose value says where it runs."""
_FIRST = ("script", "container", "argv")
"""Fields whose difference says most; a script is also a part of `argv`."""
_SHOWN_CHARACTERS = 60
"""Of a value in a reason."""
_NOUNS = {
    "container": "container",
    "bootstrap": "environment",
    "argv": "command line",
    "operator_kind": "kind of operator",
    "launch_kind": "way of being started",
    "cwd": "working directory",
    "frame": "use of a block that it belongs to",
    "depends_on": "dependencies",
    "kind": "kind",
    "ranks_per_node": "number of processes on each node",
    "success": "conditions of success",
    "success_exit_codes": "exit codes of success",
    "sweep": "swept values",
    "found": "outputs",
    "deferred": "expressions on ports and outputs",
    "deferred_tcp_ports": "probe ports",
    "has_master_port": "port to meet at",
    "kill_on_bad_exit": "rule for processes that fail",
}
"""Fields whose name in the plan is not what a person would call them."""


class Work(NamedTuple):
    """A task, and what its plan says of artifacts."""

    task: PlannedTask
    artifacts: PlannedArtifactUse

    @property
    def plan(self) -> Plan:
        """The plan that the task is from."""
        return self.artifacts.plan


def difference(old: Work, new: Work) -> str | None:
    """Say why a task is other work than it was, as "its image changed from x:1 to x:2"; None for the same work."""
    return next(differences(old, new), None)


def differences(old: Work, new: Work) -> Iterator[str]:
    """Yield every difference of the work, what says most first: of a script, not what it changes in the command line."""
    before, after = _core(old), _core(new)
    if before != after:
        secrets = _Secrets(old, new)
        places = (_Places(old.plan), _Places(new.plan))
        fields = (*_FIRST, *(name for name in PlannedTask.__struct_fields__ if name not in _FIRST))
        is_said = False
        for name in fields:
            one, other = getattr(before, name), getattr(after, name)
            if one == other or places[0].without(one) == places[1].without(other):
                continue
            if name == "argv" and is_said:
                continue
            is_said = is_said or name in _FIRST
            if name == "env" and (changed := [*_packages(old, new)]):
                yield from changed
                continue
            yield from map(secrets.masked, _described(name, one, other, secrets))
    yield from _changed_artifacts(old, new)
    yield from _changed_files(old, new)


def fingerprint(work: Work) -> str:
    """Return the SHA-256 of a task's work, in hexadecimal: the same as another one's exactly if there is no difference.

    It is the same in another run, on other nodes and at other times: places, names of the run and what only decides when a task
    runs do not count. What counts is documented in `docs/howto/reuse.md`.
    """
    core, plan, use = _core(work), work.plan, work.artifacts
    text = _Places(plan).without(core)
    is_numbered = not work.task.key or "SFLOW_REPLICA_INDEX" in text
    run = work.task.env.get("SFLOW_WORKFLOW_OUTPUT_DIR", "")
    output = work.task.env.get("SFLOW_OUTPUT_DIR", "")
    run_id = work.task.env.get("SFLOW_RUN_ID", "")
    for own, name in ((run, "<run>"), (output, "<output>"), (run_id, "<run id>")):
        text = text.replace(_inner(own), name) if own else text
    artifacts = {name: use.content(name) for name in plan.artifacts if use.uses(work.task, name)}
    files = {path: plan.contents[path] for path in work.task.reads if path in plan.contents}
    whole = text.encode() + msgspec.json.encode(
        [artifacts, files, work.task.replica_index if is_numbered else 0], order="sorted"
    )
    return hashlib.sha256(whole).hexdigest()


def _inner(text: str) -> str:
    """Return a text as it is inside of a JSON string."""
    return msgspec.json.encode(text).decode()[1:-1]


def _without_times(probe: Probe) -> Probe:
    also = tuple(map(_without_times, probe.also))
    return msgspec.structs.replace(probe, delay_s=0.0, interval_s=0.0, timeout_s=0.0, also=also)


def _core(work: Work) -> PlannedTask:
    """Return a task without its place and time, and without the paths of artifacts, which it may not use."""
    task, artifacts = work.task, work.plan.artifacts
    unseen = [name for name in work.plan.secrets if name not in work.plan.variables]  # of an environment
    env = {
        name: value
        for name, value in task.env.items()
        if name not in _PLACED_VARIABLES and artifacts.get(name) != value and name not in unseen
    }
    placement = msgspec.structs.replace(
        task.placement,
        nodes=(),
        gpus=(),
        is_flexible=False,
        node_count=task.placement.node_count if task.placement.is_flexible else len(task.placement.nodes),
        gpus_per_node=task.placement.gpus_per_node or len(task.placement.gpus),
        is_shared=False,
        gpu_bytes=0,
        pack="none",
        near="none",
    )
    probes = tuple(_without_times(one) for one in task.probes)
    block = task.block
    if block is not None:  # how far it is makes no other work
        block = BlockCall(
            block=block.block, given=block.given, loop=block.loop, names=block.names, head=block.head
        )
    late = None if task.foreach is None else task.foreach.late
    inputs = tuple(msgspec.structs.replace(one, scratch="") if one.scratch else one for one in task.inputs)
    item = task.item
    if item is not None and item.turn is not None:  # only when it starts
        item = msgspec.structs.replace(item, turn=None)
    return msgspec.structs.replace(
        task,
        item=item,
        **{**_NOT_WORK, "foreach": None if late is None else _list_of(late)},
        block=block,
        inputs=inputs,
        checkpoint=_start(task.checkpoint),
        env=env,
        argv=tuple(_without_places(task)),
        placement=msgspec.structs.replace(placement, is_flexible=True),
        probes=probes,
    )


def _start(rules: CheckpointRules | None) -> CheckpointRules | None:
    """Return what the first attempt begins from; how checkpoints are found makes no other work."""
    return None if rules is None or rules.start is None else CheckpointRules(directory="", start=rules.start)


def _list_of(late: LateItems) -> PlannedForeach:
    """Return the list of a task that stands for copies: another one makes others. Copies are compared themselves."""
    words = LateItems(items=late.items, names=late.names, is_product=late.is_product, max_items=0)
    return PlannedForeach(late=words)


def _without_places(task: PlannedTask) -> Iterator[str]:
    placed = {one.position for one in task.assigned_arguments}
    is_step = task.launch_kind == "step"
    for position, word in enumerate(task.argv):
        is_place = is_step and position > 0 and task.argv[position - 1] in _PLACED_OPTIONS
        yield "" if is_place or position in placed else word


class _Places:
    """The nodes of a plan, to compare texts in which an expression has put a node's name or address."""

    def __init__(self, plan: Plan) -> None:
        self._names: dict[str, str] = {}
        for node in plan.nodes:
            for text in (node.name, node.address):
                if text:
                    self._names.setdefault(text, f"<node {node.index}>")
        words = "|".join(map(re.escape, sorted(self._names, key=len, reverse=True)))
        self._pattern = re.compile(rf"(?<![\w.-])(?:{words})(?![\w-])") if words else None

    def without(self, value: Any) -> str:
        """Return a value as text in which nodes are named by their number in the run."""
        text = msgspec.json.encode(value, order="sorted", enc_hook=str).decode()
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._names[match[0]], text)


class _Secrets:
    """The values that must not be shown, of both plans."""

    def __init__(self, *works: Work) -> None:
        self.names = frozenset(name for work in works for name in work.plan.secrets)
        found = (work.task.env.get(name, "") for work in works for name in work.plan.secrets)
        self._values = sorted({value for value in found if value}, key=len, reverse=True)

    def masked(self, text: str) -> str:
        """Return the text with asterisks for secrets."""
        for value in self._values:
            text = text.replace(value, "***")
        return text


def _described(name: str, old: Any, new: Any, secrets: _Secrets) -> Iterator[str]:
    match name:
        case "env":
            yield from _variables(old, new, secrets)
        case "container" if old is not None and new is not None:
            yield _of_parts("its container", msgspec.to_builtins(old), msgspec.to_builtins(new))
        case "argv":
            yield _argument(old, new)
        case "placement":
            yield f"its resources changed from {needs_text(old)} to {needs_text(new)}"
        case "files":
            yield from _named("file", {one.path: one for one in old}, {one.path: one for one in new})
        case "ports":
            yield from _named("port", {one.name: one for one in old}, {one.name: one for one in new})
        case "operator_kind" | "launch_kind" | "cwd" | "kind" | "ranks_per_node" | "success_exit_codes":
            yield f"its {_NOUNS[name]} changed{_from_to(_plain(old), _plain(new))}"
        case _:
            yield f"its {_NOUNS.get(name, name.replace('_', ' '))} changed"


def _plain(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def _variables(old: Mapping[str, str], new: Mapping[str, str], secrets: _Secrets) -> Iterator[str]:
    for name in dict.fromkeys((*new, *old)):
        if old.get(name) == new.get(name):
            continue
        noun = f"its environment variable {name}"
        if name not in old:
            yield f"{noun} is new"
        elif name not in new:
            yield f"{noun} is gone"
        else:
            yield f"{noun} changed" + ("" if name in secrets.names else _from_to(old[name], new[name]))


def _argument(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    """Name the first argument that differs, with the option before it."""
    position = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), None)
    if position is None or len(old) != len(new):
        longer, shorter = (new, old) if len(new) > len(old) else (old, new)
        at = len(shorter) if position is None else position
        word = "has" if longer is new else "no longer has"
        return f"its command line {word} {_shown(longer[at])}"
    before = old[position - 1] if position else ""
    noun = "its program" if position == 0 else "its command line"
    if before in ("--container-image", "--container-name"):
        noun = "its image" if before.endswith("image") else "its container's name"
    elif before.startswith("--"):
        noun = f"its option {before}"
    return f"{noun} changed{_from_to(old[position], new[position])}"


def _of_parts(noun: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    name = next(one for one in new if old.get(one) != new[one])
    if name == "image":
        return f"its image changed{_from_to(old[name], new[name])}"
    return f"{noun} changed: {name.replace('_', ' ')}"


def _named(noun: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    names = [one for one in dict.fromkeys((*new, *old)) if old.get(one) != new.get(one)]
    if not names:
        yield f"the order of its {noun}s changed"
    for name in names:
        if name not in old:
            yield f"its {noun} {name} is new"
        else:
            yield f"its {noun} {name} {'changed' if name in new else 'is gone'}"


def _packages(old: Work, new: Work) -> Iterator[str]:
    """Name the packages whose content is another one: their snapshots have other places on the import path."""
    before = {one.source: one.sha256 for one in old.plan.packages}
    path = new.task.env.get("PYTHONPATH", "")
    for one in new.plan.packages:
        if one.import_path in path and before.get(one.source) not in (None, one.sha256):
            yield f"its package {one.name} changed"


def _from_to(old: Any, new: Any) -> str:
    return f" from {_shown(old)} to {_shown(new)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is None or value == "" else str(value)
    if "\n" in text:
        text = text.replace("\n", " ")
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _changed_files(old: Work, new: Work) -> Iterator[str]:
    """Find files that the task reads and whose content is another one; those that cannot be looked at now count as unchanged."""
    for path in new.task.reads:
        now, before = new.plan.contents.get(path), old.plan.contents.get(path)
        if now not in (None, MISSING, UNREADABLE) and before is not None and now != before:
            yield f"its file {path} changed"


def _changed_artifacts(old: Work, new: Work) -> Iterator[str]:
    """Find artifacts that the task uses and that are elsewhere now, or whose content is another one."""
    before, after = old.plan.artifacts, new.plan.artifacts
    for name in (*after, *(one for one in before if one not in after)):
        if name not in after:
            if old.artifacts.uses(old.task, name):
                yield f"its artifact {name} is gone"
        elif before.get(name) == after[name] and new.artifacts.has_content(name, old.artifacts):
            continue
        elif new.artifacts.uses(new.task, name):
            if name not in before:
                yield f"its artifact {name} is new"
            elif before[name] != after[name]:
                yield f"its artifact {name} changed{_from_to(before[name], after[name])}"
            else:
                yield f"the content of its artifact {name} changed"

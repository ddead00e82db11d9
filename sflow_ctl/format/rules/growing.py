"""Rules for lists of items and for blocks: their sources, names that mean nothing else, and what cannot be combined with them.

Called by `rules/document.py`.
"""

from collections.abc import Callable, Iterator

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.plan.graph import find_cycle

Where = Callable[..., str]
SOURCES = ("items", "sequence", "count", "glob")
RESERVED = frozenset(
    (
        "args", "args_json", "artifacts", "backends", "block", "checkpoint", "endpoint", "inputs", "iteration", "last",
        "port", "ports", "replica", "sweep", "task", "variables", "workflow",
    )
)  # fmt: skip
"""Names that mean other things in the expressions of tasks."""
_NAME = lazy_pattern(r"[A-Za-z][A-Za-z0-9_]*")


def growing_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check the tasks whose copies, or blocks, the plan is made of."""
    for task in document.workflow.tasks:
        yield from foreach_findings(document, task, where)
        yield from pair_findings(document, task, where)
    yield from block_findings(document, where)


def foreach_findings(document: schema.Document, task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check the list of items of a task."""
    foreach = task.foreach
    if foreach is None:
        return

    def place(*path: str) -> str:
        return where("tasks", task.name, "foreach", *path)

    given = [name for name in SOURCES if getattr(foreach, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        what = f'foreach of task "{task.name}" needs exactly one of {", ".join(SOURCES)}, found {found}'
        yield Finding(
            "wrong-value", what, place(*given[1:2]), "e.g. foreach: [a, b], or foreach: {count: 10}"
        )
    if foreach.product and not isinstance(foreach.items, dict):
        what = f'foreach of task "{task.name}" has product, which is for items that are a mapping to lists'
        hint = "e.g. items: {lr: [0.1, 0.2], seed: [1, 2]}"
        yield Finding("conflicting-keys", what, place("product"), hint)
    if isinstance(foreach.items, dict) and not foreach.items:
        what = f'the items of task "{task.name}" are a mapping without lists'
        yield Finding("wrong-value", what, place("items"), "e.g. items: {lr: [0.1, 0.2], seed: [1, 2]}")
    sequence = foreach.sequence
    if sequence is not None and (sequence.end is None) == (sequence.count is None):
        what = f'the sequence of task "{task.name}" needs exactly one of end and count'
        yield Finding("wrong-value", what, place("sequence"), "e.g. sequence: {start: 1, end: 10}")
    if foreach.has_late_sequence:
        what = f'the {given[0]} of task "{task.name}" is known only while the run continues'
        hint = "write items: ${{ range(FIRST, LAST + 1) }}, or a count that is one expression"
        yield Finding("wrong-value", what, place(given[0]), hint)
    yield from _name_findings(document, task, foreach, place)
    yield from _conflicts(task, foreach, where)
    if foreach.chunk is not None:
        yield from _chunk_findings(task, where)


def _chunk_findings(task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check that a task for several items at once hands over, and is given, what can be told apart by item."""
    for index, one in enumerate(task.outputs):
        if not one.is_found or one.found_kind not in ("param", "metric"):
            what = f'output {one.name or index} of task "{task.name}" is one for a whole chunk of items'
            hint = "with chunk, outputs are lists in $SFLOW_OUTPUTS_FILE with one entry for each item; of files, their paths"
            yield Finding("conflicting-keys", what, where("tasks", task.name, "outputs", index), hint)
    if task.result is not None:
        what = f'task "{task.name}" has result, whose values are those of a whole chunk of items'
        yield Finding(
            "conflicting-keys", what, where("tasks", task.name, "result"), "use outputs, or drop chunk"
        )
    for name, given in task.inputs.items():
        if given.items == "same" and given.stage is not None:
            what = f'input "{name}" of task "{task.name}" has stage, and is a list of paths, one for each item of a chunk'
            hint = "let the task use the files where they are, or drop chunk"
            yield Finding("conflicting-keys", what, where("tasks", task.name, "inputs", name, "stage"), hint)


def pair_findings(document: schema.Document, task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check that `items: same` is between two tasks that have items."""
    items_of = {one.name: one.foreach for one in document.workflow.tasks}
    named: list[tuple[str, tuple[str | int, ...]]] = [
        (one.task, ("depends_on", index, "items"))
        for index, one in enumerate(task.depends_on)
        if isinstance(one, schema.Dependency) and one.items == "same"
    ]
    named += [
        (source.rpartition(".outputs.")[0], ("inputs", name, "items"))
        for name, given in task.inputs.items()
        if given.items == "same"
        for source in given.source or [""]
    ]
    for other, path in named:
        lacking = next((name for name in (task.name, other) if items_of.get(name, "") is None), None)
        if lacking is not None or not other:
            which = f'task "{lacking}"' if lacking else "this input"
            what = f'task "{task.name}" has items: same, which is between two tasks with foreach, and {which} has none'
            hint = "leave it out, or give both the same foreach"
            yield Finding("conflicting-keys", what, where("tasks", task.name, *path), hint)


def _name_findings(
    document: schema.Document, task: schema.Task, foreach: schema.Foreach, place: Where
) -> Iterator[Finding]:
    """Check what expressions call the item."""
    name = foreach.as_
    if not _NAME.fullmatch(name):
        what = f'"{name}" of task "{task.name}" cannot be the name of an item'
        yield Finding("wrong-name", what, place("as"), "use letters, digits and _")
        return
    variables = (*document.variables, *document.workflow.variables, *task.variables)
    same = [one.name for one in variables if one.name in (name, f"{name}_index")]
    if name in RESERVED:
        what = f'"{name}", the name of the item of task "{task.name}", has another meaning in expressions'
        yield Finding("wrong-name", what, place("as"), "give it another one, as in foreach: {as: file, ...}")
    elif same:
        what = f'"{same[0]}" is a variable, and what expressions of task "{task.name}" call its item'
        hint = "give the item another name, as in foreach: {as: file, ...}, or rename the variable"
        yield Finding("wrong-name", what, place("as"), hint)


def _conflicts(task: schema.Task, foreach: schema.Foreach, where: Where) -> Iterator[Finding]:
    def conflict(what: str, field: str, hint: str) -> Finding:
        return Finding(
            "conflicting-keys", f'task "{task.name}" {what}', where("tasks", task.name, field), hint
        )

    if task.replicas is not None:
        hint = "each item has a copy of the task: drop replicas, or make items of their numbers"
        yield conflict("has both foreach and replicas", "replicas", hint)
    if isinstance(task.sweep, schema.Sweep):
        hint = "a list of items can be a product of several: foreach: {items: {...}, product: true}"
        yield conflict("has both foreach and a sweep of its own", "sweep", hint)
    if foreach.is_late and task.is_service:
        hint = "list the items in the file, or make it a task that ends"
        yield conflict(
            "is a service, and how many of it there are is known only when others have ended", "foreach", hint
        )
    if foreach.is_late and task.finally_:
        hint = "list the items in the file"
        yield conflict(
            "runs at the end of the run, and its items are outputs of other tasks", "foreach", hint
        )


# ---------------------------------------------------------------------- blocks

MARK = "~"
"""Between the names of a block and of its task, as `merged/blocks` puts it there."""
_WITHOUT_PROCESS = (
    "python", "launcher", "operator", "environment", "probes", "ports", "files", "checkpoint", "outputs", "inputs", "result",
    "uploads", "success", "retries", "restart", "timeout", "total_timeout", "queue_timeout", "hang", "progress", "stop",
    "resources", "replicas",
    "monitor", "windows", "kind", "args", "args_json",
)  # fmt: skip
"""Fields that are about the processes of a task."""
_NOT_IN_BLOCKS = ("main", "finally_", "sweep")
_LAST = lazy_pattern(r"(?<![.\w])last\.(inputs|outputs)\.(\w+)")


def block_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check the tasks that stand for blocks, and the tasks of blocks."""
    blocks = {block.name: block for block in document.workflow.blocks}
    plain = schema.Task(name="", script=[])
    for task in document.workflow.tasks:
        if task.block is None:
            if task.loop is not None:
                what = f'task "{task.name}" has loop, which repeats a block'
                yield Finding("missing-key", what, where("tasks", task.name, "loop"), "add block: NAME")
        elif task.block not in blocks:
            what = f'task "{task.name}" stands for block "{task.block}", which there is not'
            hint = guess_hint(task.block, list(blocks), f"blocks here: {', '.join(blocks) or 'none'}")
            yield Finding("unknown-block", what, where("tasks", task.name, "block"), hint)
        else:
            for field in (name for name in _WITHOUT_PROCESS if getattr(task, name) != getattr(plain, name)):
                what = f'task "{task.name}" stands for a block, and has {field}, which is about processes of its own'
                yield Finding(
                    "conflicting-keys",
                    what,
                    where("tasks", task.name, field),
                    "give it to tasks of the block",
                )
            yield from _given_findings(task, blocks[task.block], where)
        if MARK in task.name and task.name.partition(MARK)[0] in blocks:
            yield from _inner_findings(task, plain, where)
    yield from _recursion_findings(document, blocks, where)


def _given_findings(task: schema.Task, block: schema.TaskBlock, where: Where) -> Iterator[Finding]:
    """Check what a block is given, and how it is repeated."""
    inputs = ", ".join(block.inputs) or "none"
    for name in task.with_:
        if name not in block.inputs:
            what = f'task "{task.name}" gives block "{block.name}" the input "{name}", which it does not have'
            hint = guess_hint(name, list(block.inputs), f"its inputs: {inputs}")
            yield Finding("unknown-input", what, where("tasks", task.name, "with", name), hint)
    for name, one in block.inputs.items():
        if name not in task.with_ and one.default is None:
            what = f'task "{task.name}" does not give block "{block.name}" its input "{name}"'
            yield Finding(
                "missing-input", what, where("tasks", task.name, "with"), f"add with: {{{name}: ...}}"
            )
    loop = task.loop
    if loop is None:
        return
    for name in loop.carry:
        if name not in block.inputs:
            what = f'the loop of task "{task.name}" carries "{name}", which is not an input of block "{block.name}"'
            hint = guess_hint(name, list(block.inputs), f"its inputs: {inputs}")
            yield Finding("unknown-input", what, where("tasks", task.name, "loop", "carry", name), hint)
    for place, text in (("until", loop.until), *((f"carry.{name}", one) for name, one in loop.carry.items())):
        for kind, name in _LAST.findall(str(text)):
            names = block.inputs if kind == "inputs" else block.outputs
            if name not in names:
                what = f'the loop of task "{task.name}" uses last.{kind}.{name}, which block "{block.name}" does not have'
                hint = guess_hint(name, list(names), f"its {kind}: {', '.join(names) or 'none'}")
                yield Finding(
                    "unknown-output", what, where("tasks", task.name, "loop", *place.split(".", 1)), hint
                )


def _inner_findings(task: schema.Task, plain: schema.Task, where: Where) -> Iterator[Finding]:
    """Check that a task can be one of a block."""
    for field in _NOT_IN_BLOCKS:
        if getattr(task, field) != getattr(plain, field):
            what = f'task "{task.name}" of a block has {field.rstrip("_")}'
            hint = "only tasks of the workflow may have it"
            yield Finding("conflicting-keys", what, where("tasks", task.name, field.rstrip("_")), hint)
    if task.is_service:
        what = (
            f'task "{task.name}" of a block is a service, and each use of the block would leave one running'
        )
        hint = "make it a task of the workflow, which tasks of blocks may depend on"
        yield Finding("conflicting-keys", what, where("tasks", task.name), hint)


def _recursion_findings(
    document: schema.Document, blocks: dict[str, schema.TaskBlock], where: Where
) -> Iterator[Finding]:
    """Find blocks that contain themselves."""
    uses: dict[str, dict[str, str]] = {name: {} for name in blocks}
    for task in document.workflow.tasks:
        inside = task.name.partition(MARK)[0]
        if task.block in blocks and inside in uses and MARK in task.name:
            uses[inside].setdefault(task.block, task.name)
    cycle = find_cycle({name: list(others) for name, others in uses.items()})
    if cycle is not None:
        what = f"block {cycle[0]} contains itself: {' -> '.join(cycle)}"
        place = where("tasks", uses[cycle[0]][cycle[1]], "block")
        yield Finding(
            "recursion", what, place, "repeat it with loop: {max_iterations: N, until: ...} where it is used"
        )

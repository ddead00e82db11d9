"""Finds the expressions that must wait until their task starts, and checks that their values will be known then.

Deferred expressions use outputs of earlier tasks, or ports, which are leased when a task starts. A port can
be leased for a task that starts later, so its user need not wait for that task, unless the task's placement
is flexible: then its node must be chosen first.
"""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from re import Pattern
from typing import Any

from msgspec import Struct

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.expressions.templates import (
    DOMAINS,
    EXPRESSION_START,
    as_text,
    evaluate,
    names_used,
    pieces,
)
from sflow_ctl.format.yaml_source import PathKey
from sflow_ctl.plan.model import DeferredExpression
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.tasks.outputs import names_of_values

_OUTPUTS = lazy_pattern(r"\boutputs\b")
_DEFERRED = lazy_pattern(r"\b(?:outputs|(?<!service\.)ports?|endpoints?|checkpoint|inputs|block)\b")
_INPUTS = lazy_pattern(r"(?<![.\w])inputs\b")
_INPUT = lazy_pattern(
    r"(?<![.\w])inputs(?:\.(?P<name>\w+)|\[\s*[\"'](?P<quoted>[^\"']+)[\"']\s*\])(?P<arg>\.arg\b)?"
)
_VALUE = lazy_pattern(
    r"\btask(?:\.(?P<name>\w+)|\[\s*[\"'](?P<quoted>[^\"']+)[\"']\s*\])(?P<index>\s*\[[^\]]*\])?"
    r"\.outputs(?:\.(?P<value>\w+)|\[\s*[\"'](?P<key>[^\"']+)[\"']\s*\])?(?P<call>\s*\()?"
)
_MAY_BE_MISSING = lazy_pattern(r"\b(?:default|d|defined|undefined)\b")
_WORD = lazy_pattern(r"[A-Za-z_]\w*")
_PLACE = lazy_pattern(r"\b(?:nodes|gpus|service)\b")
_SERVICE = lazy_pattern(r"\bservice\b")
_NAMED = lazy_pattern(r"\btask(?:\.(\w+)|\[\s*[\"']([^\"']+)[\"']\s*\])")


class OwnValues(dict[str, Any]):
    """`port`, `ports` or `checkpoint` of the task being planned, known when it starts; a variable of that name is not one."""


class ItemValues(OwnValues):
    """What differs between the copies of a task with `foreach`: known when each starts."""

    def __init__(self, stand_in: Any = None, *, is_known: bool = False) -> None:
        """`stand_in` is that of the first copy, if there is any: with it mistakes are found when planning."""
        super().__init__()
        self.stand_in, self.is_known = stand_in, is_known


class TaskNamespace(dict[str, Any]):
    """The `task` namespace while tasks are planned.

    Expressions on nodes and GPUs of a task that may be moved to other ones are late, and so is where a task with leased ports
    serves. Whose were evaluated already is noted.
    """

    def __init__(
        self, views: Mapping[str, Any], movable: Container[str], leasing: Container[str] = ()
    ) -> None:
        """Names are concrete or as written: `movable` tasks may start again elsewhere, `leasing` ones lease ports."""
        super().__init__(views)
        self._movable = movable
        self._leasing = leasing
        self._used: set[str] = set()
        self._is_any_used = False

    def follows(self, source: str) -> bool:
        """Return whether an expression must wait because it uses a place that may change, or a port that is leased."""
        return self._uses(source, _PLACE, self._movable) or self._uses(source, _SERVICE, self._leasing)

    def _uses(self, source: str, what: Pattern[str], tasks: Container[str]) -> bool:
        if not tasks or what.search(source) is None:
            return False
        named = self._named(source) if self else tasks_named(source)
        return any(name in tasks for name in named) if named else "task" in source

    def note(self, source: str) -> None:
        """Note that an expression is evaluated now: the places that it uses must not change any more."""
        if _PLACE.search(source) is not None:
            named = self._named(source)
            self._used.update(named)
            self._is_any_used = self._is_any_used or (not named and "task" in source)

    def _named(self, source: str) -> list[str]:
        """Return the tasks that an expression names; none where it finds them out itself, as in a loop over all."""
        named = tasks_named(source)
        return named if all(name in self for name in named) else []

    def is_place_used(self, *names: str) -> bool:
        """Return whether an expression on the nodes or GPUs of the task with these names was evaluated."""
        return self._is_any_used or not self._used.isdisjoint(names)

    def is_any_place_used(self, base: str, copies: Container[str]) -> bool:
        """Return whether such an expression was evaluated on a task as written, or on one of its copies."""
        return self.is_place_used(base) or any(name in copies for name in self._used)


class Known(Struct, frozen=True):
    """Facts of the document that decide whether an expression is deferred."""

    tasks: Mapping[str, schema.Task]
    base_of: Mapping[str, str]
    """Maps concrete names, and names as written, to the task as written."""
    ancestors: Callable[[str], frozenset[str]]
    replicas_of: Mapping[str, Sequence[str]]
    """Maps tasks as written to their concrete names."""
    flexible: Collection[str]
    """Tasks as written whose nodes are chosen when they start."""


def leasing(tasks: Iterable[schema.Task], replicas_of: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the names, concrete and as written, of the tasks that lease ports."""
    return {name for task in tasks if task.leased_ports for name in (task.name, *replicas_of[task.name])}


def is_deferred(text: str, names: Mapping[str, Any]) -> bool:
    """Return whether a text has an expression that uses outputs or ports; `names` are those it sees."""
    return EXPRESSION_START in text and any(
        _uses_deferred(piece.text, names) for piece in pieces(text) if piece.is_expression
    )


def _uses_deferred(source: str, names: Mapping[str, Any]) -> bool:
    if _DEFERRED.search(source) is None and not _has_own(source, names):
        tasks = names.get("task")
        if not isinstance(tasks, TaskNamespace):
            return False
        if not tasks.follows(source):
            tasks.note(source)
            return False
    return are_deferred(names_used(f"{EXPRESSION_START} {source} }}}}"), names)


def _has_own(source: str, names: Mapping[str, Any]) -> bool:
    """Return whether a word of an expression is a name of what differs between copies; whether it is used is another question."""
    return isinstance(names.get("replica"), ItemValues) and any(
        isinstance(names.get(word), ItemValues) for word in _WORD.findall(source)
    )


def are_deferred(used: Iterable[str], names: Mapping[str, Any]) -> bool:
    """Return whether one of the names used is known only when its task starts."""
    return any(name == "task" or isinstance(names.get(name), OwnValues) for name in used)


def note_places(value: Any, names: Mapping[str, Any]) -> None:
    """Note whose nodes and GPUs a field uses that is evaluated now, whatever else is late."""
    tasks = names.get("task")
    if not isinstance(tasks, TaskNamespace):
        return
    if isinstance(value, str) and EXPRESSION_START in value:
        tasks.note(value)
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            note_places(part, names)


def known_names(used: Iterable[str], names: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the names that are used and known now."""
    known = {
        name: names[name]
        for name in used
        if name in names and name != "task" and not isinstance(names[name], OwnValues)
    }
    domains = names.get(DOMAINS, {})
    used_domains = (
        domains if "variables" in known else {name: domains[name] for name in known if name in domains}
    )
    return {**known, DOMAINS: used_domains} if any(used_domains.values()) else known


def needs_outputs(placeholder: str) -> bool:
    """Return whether an expression uses outputs."""
    return _OUTPUTS.search(placeholder) is not None


def waits_for_values(placeholder: str) -> bool:
    """Return whether an expression uses values that other tasks make: outputs, or inputs."""
    return needs_outputs(placeholder) or _INPUTS.search(placeholder) is not None


def waits_for_items(used: Iterable[str], names: Mapping[str, Any]) -> bool:
    """Return whether one of the names used is the item of a list that is not known yet."""
    return any(isinstance(one := names.get(name), ItemValues) and not one.is_known for name in used)


def items_among(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the names that differ between copies, as the first copy has them."""
    if not isinstance(names.get("replica"), ItemValues):
        return {}
    return {name: one.stand_in for name, one in names.items() if isinstance(one, ItemValues)}


def refuse_inputs(task: str, field: Any) -> None:
    """Refuse an input in a field that is needed before its task starts. Raises: UnplannableError."""
    if EXPRESSION_START in str(field) and any(
        piece.is_expression and _INPUTS.search(piece.text) for piece in pieces(str(field))
    ):
        what = f'task "{task}" uses its inputs in {field}, and they are known only when it starts'
        hint = "they can be used in its script, variables, files, probes and uploads"
        raise UnplannableError("inputs-too-late", what, hint)


def check_values(task: schema.Task, placeholder: str, known: "Known", path: tuple[PathKey, ...]) -> None:
    """Check that outputs and inputs exist, and that outputs will be known. Raises: UnplannableError."""
    if needs_outputs(placeholder):
        check_outputs(task, placeholder, known, path)
    if not task.inputs:
        return
    for match in _INPUT.finditer(placeholder):
        name = match["name"] or match["quoted"]
        if name in task.inputs and match["arg"]:
            what = f'task "{task.name}" uses inputs.{name}.arg, which is called inputs.arg.{name}'
            raise UnplannableError("undefined-name", what, "inputs.args has those of all inputs", path)
        if name not in task.inputs and name not in ("arg", "args"):
            what = f'task "{task.name}" uses the input "{name}", which it does not have'
            hint = guess_hint(name, list(task.inputs), f"it has {', '.join(task.inputs)}")
            raise UnplannableError("undefined-name", what, hint, path)


def render_known(text: str, names: Mapping[str, Any]) -> tuple[str, list[DeferredExpression]]:
    """Evaluate all expressions of a text but the deferred ones, which become placeholders.

    Raises: ExpressionError.
    """
    parts, deferred = [], []
    for piece in pieces(text):
        placeholder = f"{EXPRESSION_START} {piece.text} }}}}"
        if not piece.is_expression:
            parts.append(piece.text)
        elif _uses_deferred(piece.text, names):
            deferred.append(
                DeferredExpression(placeholder=placeholder, names=known_names(names_used(placeholder), names))
            )
            parts.append(placeholder)
        else:
            parts.append(as_text(evaluate(placeholder, names)))
    return "".join(parts), deferred


def tasks_named(placeholder: str) -> list[str]:
    """Return the tasks that an expression names, concrete or as written."""
    return [match[1] or match[2] for match in _NAMED.finditer(placeholder)]


def check_outputs(task: schema.Task, placeholder: str, known: Known, path: tuple[PathKey, ...]) -> None:
    """Check that tasks whose outputs are used declare some, and will have completed.

    Raises: UnplannableError.
    """
    for name in tasks_named(placeholder):
        base = known.base_of.get(name)
        if base is None:
            tasks = ", ".join(list(known.tasks)[:10])
            what = f'Failed to resolve task expression: task "{task.name}": "{name}" is not defined'
            raise UnplannableError("undefined-name", what, f"tasks here: {tasks}", path)
        is_block = known.tasks[base].block is not None
        if not is_block and not known.tasks[base].outputs and known.tasks[base].result is None:
            what = f'task "{task.name}" uses the outputs of "{base}", which declares none'
            raise UnplannableError("no-outputs", what, f"add outputs: to task {base}", path)
        if base not in known.ancestors(task.name):
            what = f'task "{task.name}" uses the outputs of "{base}", which may not have completed when it starts'
            raise UnplannableError("outputs-too-late", what, _in_time(task, base), path)
        if known.tasks[base].is_service:
            what = f'task "{task.name}" uses the outputs of "{base}", a service, which has outputs only when it ends'
            raise UnplannableError("outputs-too-late", what, "take them from a task that completes", path)
    for match in _VALUE.finditer(placeholder):
        name = match["name"] or match["quoted"]
        _check_replica(task, name, match["index"] is not None, known, path)
        value = match["value"] or match["key"]
        if value is not None and match["call"] is None and _MAY_BE_MISSING.search(placeholder) is None:
            _check_value(task, known.tasks[known.base_of[name]], value, path)


def _in_time(task: schema.Task, base: str) -> str:
    """Return how a task would wait for the outputs of another one."""
    until = next((one.until for one in task.dependencies if one.task == base), None)
    if until is None:
        return f"add {base} to its depends_on"
    why = (
        "holds for failures too; completed does not"
        if until == "finished"
        else "comes before its outputs; completed does not"
    )
    return f"`until: {until}` of its depends_on on {base} {why}"


def _check_replica(
    task: schema.Task, name: str, is_one: bool, known: Known, path: tuple[PathKey, ...]
) -> None:
    """Check that outputs are those of one replica. Raises: UnplannableError."""
    replicas = known.replicas_of.get(name, (name,))
    if (base := known.tasks.get(name)) is not None and base.foreach is not None:
        return  # lists over all items
    if not is_one and list(replicas) != [name]:
        what = f'task "{task.name}" uses outputs of "{name}", which has {len(replicas)} replicas with outputs of their own'
        of_one = (
            f'write task["{replicas[0]}"].outputs or task["{name}"][0].outputs for one, ' if replicas else ""
        )
        hint = f"{of_one}`task[\"{name}\"] | map(attribute='outputs')` for all"
        raise UnplannableError("outputs-of-replicas", what, hint, path)


def _check_value(task: schema.Task, source: schema.Task, value: str, path: tuple[PathKey, ...]) -> None:
    """Check that a task yields a value of this name. Raises: UnplannableError."""
    names = names_of_values(source)
    if names is None or any(name == value or name.startswith((f"{value}[", f"{value}.")) for name in names):
        return
    what = f'task "{task.name}" uses the output "{value}" of "{source.name}", which it does not have'
    raise UnplannableError(
        "no-such-output", what, guess_hint(value, sorted(names), f"it has {', '.join(sorted(names))}"), path
    )


def check_ports(task: schema.Task, used: Sequence[str], known: Known, path: tuple[PathKey, ...]) -> None:
    """Check that the nodes of tasks whose ports are used will be known. Raises: UnplannableError."""
    for name in used:
        base = known.base_of[name]
        if base in known.flexible and base not in known.ancestors(task.name):
            what = (
                f'task "{task.name}" uses a port of "{name}", and there is not room for all tasks at once: on which node '
                "that will be is decided when it is ready"
            )
            hint = f"add {base} to the depends_on of {task.name}, or name its nodes: resources: {{nodes: {{indices: ...}}}}"
            raise UnplannableError("ports-too-late", what, hint, path)

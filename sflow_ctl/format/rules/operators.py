"""Rules for backends and operators: which fields each type has, needs and accepts."""

from collections.abc import Callable, Iterator

from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.expressions.templates import has_expression

Where = Callable[..., str]
_SLURM_NEEDS = ("time", "nodes", "gpus_per_node")
"""Fields of a Slurm backend that a site's settings cannot give."""
_ONLY_SLURM = ("account", "partition", "time", "job_name", "extra_args")
_REQUIRED = (("docker", "image"), ("container", "image"), ("ssh", "host"))


_ARE_OPTIONS = ("extra_args",)
_HINT = "options go into extra_args; a value cannot begin with a dash"


def smuggled_options(part: schema.Operator | schema.Backend, kind: str, where: Where) -> Iterator[Finding]:
    """Find values that a program would read as one of its options: an image `--privileged`, a host `-oProxyCommand=...`."""
    for name in part.__struct_fields__:
        given = getattr(part, name)
        if name in _ARE_OPTIONS or not isinstance(given, str | list):
            continue
        for value in given if isinstance(given, list) else (given,):
            if isinstance(value, str) and value.lstrip().startswith("-"):
                what = f'"{name}" of a {kind} begins with a dash and would be read as an option: "{value}"'
                yield Finding("option-in-value", what, where(name), _HINT)


def backend_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check that at most one backend is the default, and the fields of each type."""
    defaults = [backend.name for backend in document.backends if backend.default]
    if len(defaults) > 1:
        what = f"Multiple default backends found: {', '.join(defaults)}"
        place = where("backends", defaults[1], "default")
        yield Finding("several-defaults", what, place, "keep one default: true")
    for backend in document.backends:
        yield from smuggled_options(
            backend, "backend", lambda *path, name=backend.name: where("backends", name, *path)
        )
        if backend.type == "slurm":
            for name in _SLURM_NEEDS:
                if getattr(backend, name) is None:
                    what = f'"{name}" is missing: a slurm backend needs it'
                    yield Finding("missing-key", what, where("backends", backend.name), f'add "{name}:"')
            continue
        for name in _ONLY_SLURM:
            if getattr(backend, name):
                what = f'unknown key "{name}" of a local backend'
                place = where("backends", backend.name, name)
                yield Finding("unknown-key", what, place, "only slurm backends have it")


def all_operator_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check every operator, and that tasks name operators that exist."""
    for operator in document.operators:
        yield from operator_findings(
            operator, lambda *path, name=operator.name: where("operators", name, *path)
        )
    known = {operator.name for operator in document.operators}
    for task in document.workflow.tasks:
        if task.operator is None:
            continue
        name = task.operator if isinstance(task.operator, str) else task.operator.get("name")
        place = where("tasks", task.name, "operator")
        if not isinstance(name, str):
            what = f'the operator of task "{task.name}" needs the name of an entry of operators:'
            yield Finding("missing-key", what, place, "add name: NAME")
        elif name not in known:
            what = f'task "{task.name}" references unknown operator "{name}"'
            hint = guess_hint(name, sorted(known), "define it under operators:")
            yield Finding("unknown-operator", what, place, hint)


def operator_findings(operator: schema.Operator, where: Where) -> Iterator[Finding]:
    """Check one operator; the planner does so again after a task has changed some of its fields."""
    allowed = schema.OPERATOR_FIELDS[operator.type]
    defaults = schema.Operator(name="", type="bash")
    for name in operator.__struct_fields__:
        if name in ("name", "type") or getattr(operator, name) == getattr(defaults, name) or name in allowed:
            continue
        what = f'unknown key "{name}" of a {operator.type} operator'
        listed = f"allowed: {', '.join(sorted(allowed)) or 'nothing more'}"
        yield Finding("unknown-key", what, where(name), guess_hint(name, sorted(allowed), listed))
    for name, choices in schema.CHOICES.items():
        value = getattr(operator, name)
        if value is not None and name in allowed and value not in choices and not has_expression(value):
            what = f'"{value}" is not a valid {name} of a {operator.type} operator'
            hint = guess_hint(value, choices, f"one of {', '.join(choices)}")
            yield Finding("wrong-value", what, where(name), hint)
    yield from smuggled_options(operator, f"{operator.type} operator", where)
    for kind, name in _REQUIRED:
        if operator.type == kind and getattr(operator, name) is None:
            what = f'"{name}" is missing: operators of type {kind} need it'
            yield Finding("missing-key", what, where(), f'add "{name}:"')
